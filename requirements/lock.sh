# Called by `make lock`. In: pip-compile. Out: base.txt and dev.txt with hashes, without addresses or paths.
set -eu
options="--generate-hashes --allow-unsafe --strip-extras --quiet --no-emit-options --no-emit-index-url --no-emit-find-links --no-emit-trusted-host"
# shellcheck disable=SC2086
"$1" $options --extra postgresql -o requirements/base.txt pyproject.toml requirements/build.in
# shellcheck disable=SC2086
"$1" $options -o requirements/dev.txt requirements/dev.in
