# `make demo` and `make test` need Python 3.11 or newer, and this file. Each target does its own set-up, in .venv.
.DEFAULT_GOAL := help
.PHONY: help demo test check fix bench bench-minute bench-scale chaos fuzz-core environment environment-dev services clean
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV

PYTHON_FILES := loads_queue scheduler workers deploy tests bench scripts setup.py
SHELL_FILES := .ci/run $(wildcard scripts/*.sh)
ARGS ?=
JOBS ?= 3
SEEDS ?= 5
BROKER ?= all
SIMULATED ?= 0
EXHAUSTIVE ?= 0

help: ## what there is
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /	/' | expand -t 18

demo: environment ## a load test of a small target on this machine, from nothing to a summary
	@.venv/bin/python -m scripts.demo $(ARGS)

test: environment-dev services ## every test, JOBS of them at a time (ARGS="-k name" for some)
	@PATH="$$PATH:/usr/local/sbin:/usr/sbin:/sbin" .venv/bin/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)

check: environment-dev ## lint, format, types, layers, shell; changes nothing
	.venv/bin/ruff check $(PYTHON_FILES)
	.venv/bin/ruff format --check $(PYTHON_FILES)
	.venv/bin/mypy -p loads_queue -p loads.scheduler -p loads.workers -p loads.deploy
	.venv/bin/mypy bench scripts
	.venv/bin/shellcheck $(SHELL_FILES)
	.venv/bin/python -m pytest -q tests/test_layers.py

fix: environment-dev ## mends what `make check` finds and a machine can mend
	.venv/bin/ruff check --fix $(PYTHON_FILES)
	.venv/bin/ruff format $(PYTHON_FILES)

bench: environment ## Loads beside wrk, hey, Locust and others; writes docs/performance.md (ARGS="--rounds 3 --only http-1k")
	@scripts/bench-peers.sh
	@PATH="$$PATH:/usr/local/sbin:/usr/sbin:/sbin" .venv/bin/python -m bench.compare $(ARGS)

bench-minute: environment ## the figures of a minute's run, as a table (ARGS="--for 10s --rate 200" for another)
	@.venv/bin/python -m bench.figures $(ARGS)

fuzz-core: environment-dev ## the compiled core's parser against the pure one, under AddressSanitizer (ARGS="-k chunked")
	@scripts/fuzz-core.sh $(ARGS)

chaos: environment-dev services ## faults on real clusters (SEEDS=20 BROKER=redis; simulator: SIMULATED=10000 EXHAUSTIVE=2)
	@PATH="$$PATH:/usr/local/sbin:/usr/sbin:/sbin" .venv/bin/python -m scripts.chaos \
		--seeds $(SEEDS) --broker $(BROKER) --simulated $(SIMULATED) --exhaustive $(EXHAUSTIVE) $(ARGS)

bench-scale: environment-dev services ## one scheduler against up to 1,000 simulated workers (ARGS="--workers 300")
	@PATH="$$PATH:/usr/local/sbin:/usr/sbin:/sbin" .venv/bin/python -m bench.scale $(ARGS)

environment: ## .venv with what the product needs
	@scripts/bootstrap.sh

environment-dev: ## .venv with what the tests need, too
	@scripts/bootstrap.sh dev

services: ## the servers that the tests use
	@scripts/services.sh

clean: ## removes what these targets made, but no results
	rm -rf .venv .bench build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
