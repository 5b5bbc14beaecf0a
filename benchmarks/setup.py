"""What the benchmarks need, built once and cached under `.cache/`. `--names` lists the benchmarks there are.

.venv/bin/python -m benchmarks.setup [--names]
"""

from __future__ import annotations

import argparse
import importlib.util
import sys

BENCHMARKS = ("decode", "footprint", "commit_delay", "store")
"""In the order `make bench` runs them."""


def names() -> list[str]:
    return [name for name in BENCHMARKS if importlib.util.find_spec(f"benchmarks.{name}") is not None]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", action="store_true", help="list the benchmarks and end")
    if parser.parse_args().names:
        print("\n".join(names()))
        return 0
    from devnet import anvil

    print(f"anvil: {anvil.binary()}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
