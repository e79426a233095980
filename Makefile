# What developers and CI call. `make help` lists it.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
BIN := .venv/bin
# A file's tests stay together, as they share mounts and disks; more than a few workers would only keep each other waiting.
PARALLEL := --numprocesses auto --maxprocesses 4 --dist loadfile
export PYTHON

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## system packages, .venv, pinned dependencies; quick when nothing is missing
	@scripts/setup.sh

run: setup ## the demo: a store in ./demo, mounted at ./mnt, with real files moved between two disks
	@$(BIN)/python scripts/demo.py start

stop: ## end what `make run` left running; its files stay in ./demo
	@if [[ -x $(BIN)/python ]]; then $(BIN)/python scripts/demo.py stop; fi

check: setup ## ruff, mypy --strict, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

test: ## all tests but the long ones; PYTEST_ARGS adds options
	@scripts/setup.sh tests
	$(BIN)/python -m pytest $(PARALLEL) -m "not long" $(PYTEST_ARGS)

test-all: ## all tests
	@scripts/setup.sh tests
	$(BIN)/python -m pytest $(PYTEST_ARGS)

bench: ## speed and memory, against a bare pass-through and other file systems
	@scripts/setup.sh bench
	$(BIN)/python -m bench $(BENCH_ARGS)

lock: ## renew requirements.lock from pyproject.toml
	@scripts/lock.sh

clean: ## end the demo; remove it, .venv and all caches
	@if [[ -x $(BIN)/python ]]; then $(BIN)/python scripts/demo.py remove; fi
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help setup run stop check test test-all bench lock clean
