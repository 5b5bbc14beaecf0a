# Everything starts here: plain `make` lists the targets. Needs Python 3.11 or newer and make; the rest is fetched into .venv and .cache.

.DEFAULT_GOAL := help
SHELL := /bin/sh
.SUFFIXES:
.DELETE_ON_ERROR:

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
BIN := .venv/bin
INSTALLED := .venv/installed.stamp
ANVIL := .cache/anvil.stamp
SEED ?=
JOBS ?= 3

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(INSTALLED) $(ANVIL) ## the whole thing on this machine, about a minute (SEED=n for a certain history)
	@$(BIN)/stakeside demo $(if $(SEED),--seed $(SEED))

.PHONY: test
test: $(INSTALLED) $(ANVIL) ## all tests, some side by side (JOBS=n)
	@$(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal $(ARGS)

.PHONY: test-quick
test-quick: $(INSTALLED) $(ANVIL) ## the tests that take seconds
	@$(BIN)/python -m pytest -q -m "not slow and not soak" $(ARGS)

.PHONY: check
check: $(INSTALLED) ## formatting, lint, types, import rules, house rules
	@$(BIN)/ruff format --check --quiet . || { echo "make check: run 'make format'"; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/pyright
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/python -m tests.project.house

.PHONY: format
format: $(INSTALLED) ## format the code
	@$(BIN)/ruff check --quiet --fix --select I . ; $(BIN)/ruff format --quiet .

.PHONY: bench-setup
bench-setup: $(INSTALLED) $(ANVIL) ## build and cache what the benchmarks need
	@$(BIN)/python -m benchmarks.setup

.PHONY: bench
bench: bench-setup ## run every benchmark (QUICK=1: at most 45 s each); one JSON object each
	@for name in $$($(BIN)/python -m benchmarks.setup --names); do \
		echo "== $$name" >&2; $(BIN)/python -m benchmarks.$$name --json $(if $(QUICK),--quick) || exit 1; done

.PHONY: soak
soak: $(INSTALLED) $(ANVIL) ## the full matrices, and seeded chains with faults and kills compared with the truth (SEEDS=n, FIRST=n)
	@$(BIN)/python -m pytest -q -m soak $(ARGS)
	@$(BIN)/python -m devnet.simulate --seeds $(or $(SEEDS),200) --first $(or $(FIRST),1)

.PHONY: contracts
contracts: $(INSTALLED) ## rebuild the Solidity artifact and compare it byte for byte
	@cd contracts && { command -v npm >/dev/null || { echo "make contracts: npm is needed for the Solidity compiler"; exit 1; }; }
	@cd contracts && npm ci --ignore-scripts --no-audit --no-fund --silent && node build.mjs && node build.mjs --check

.PHONY: lock
lock: $(INSTALLED) ## resolve the dependencies anew, with the hashes of every wheel of a release
	@PIP_CONFIG_FILE=/dev/null PIP_FIND_LINKS= CUSTOM_COMPILE_COMMAND="make lock" sh requirements/lock.sh $(BIN)/pip-compile

.PHONY: clean
clean: ## remove what was built and fetched
	rm -rf .venv .cache run build *.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache

# --- stamps: nothing below runs twice ------------------------------------------------------------------------------------

$(INSTALLED): requirements/dev.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: install it, or name it with make PYTHON=..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || { rm -rf .venv; \
		echo "$(PYTHON) cannot make a virtual environment (on Debian and Ubuntu: apt install python3-venv)"; exit 1; }
	@echo "installing locked dependencies into .venv" >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt || { \
		echo "the locked dependencies could not be installed: is the Python package index reachable? then run make again"; exit 1; }
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(ANVIL): $(INSTALLED)
	@$(BIN)/python -m devnet.anvil --fetch >/dev/null
	@mkdir -p .cache && touch $@
