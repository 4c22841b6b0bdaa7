# Every target does its own set-up. `make help` lists them.
.DEFAULT_GOAL := help
.PHONY: help run test check bench agents fuzz docs attacks lock clean env-run env-dev

# The newest Python from 3.11 on that can make a virtual environment; looked up only when a recipe asks.
CAN = import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3.14 python3.13 python3.12 python3.11 python3; do \
	$$p -c '$(CAN)' >/dev/null 2>&1 && echo $$p && break; done)
NEEDS = Ostiary needs Python 3.11 or newer with its venv module (Debian and Ubuntu: python3 and python3-venv).
BIN = .venv/bin
ARGS ?=

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: env-run ## set everything up and start the gateway on 127.0.0.1:4000 (ARGS="--config config.yaml" and the like)
	@exec $(BIN)/ostiary serve $(ARGS)

test: env-dev ## set everything up and run the whole suite (ARGS="tests/wire -k stream" for a part)
	@$(BIN)/python scripts/run_tests.py $(ARGS)

check: env-dev ## format, lint, types, import rules, module sizes, house rules, generated docs
	@$(BIN)/python scripts/check.py

bench: env-dev ## overhead beside nginx, on pinned cores (ARGS="--peers litellm" for a peer; needs nginx and wrk)
	@$(BIN)/python -m bench.run $(ARGS)

agents: env-dev ## coding agents through the gateway to providers of other dialects (installs 1.5 GB into a cache)
	@$(BIN)/python -m tests.agents.run $(ARGS)

fuzz: env-dev ## arbitrary bytes at everything that reads bytes from outside (ARGS="--seconds 60 --target NAME")
	@$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements-fuzz.lock
	@$(BIN)/python scripts/fuzz.py $(ARGS)

docs: env-dev ## write the generated reference pages anew
	@$(BIN)/python scripts/build_docs.py

attacks: env-dev ## which cases of the attack list have a test
	@$(BIN)/python scripts/attacks.py

lock: env-dev ## write the lock files anew (ARGS=--upgrade takes the newest versions)
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python scripts/lock.py $(ARGS)

clean: ## remove what was made: environment, caches, reports
	rm -rf .venv build dist bench/out bench/.peers .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache \
		.hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

env-run env-dev:
	@python="$(PYTHON)"; [ -n "$$python" ] || { echo "$(NEEDS)" >&2; exit 1; }; \
		"$$python" scripts/environment.py $(@:env-%=%)
