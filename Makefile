# Verbs of the project. `make` alone lists them. Needs Python >= 3.11, make, git and a C compiler; everything else is
# installed into .venv from the locked, hashed requirements.

# The first interpreter that is new enough; `make PYTHON=… env` names another.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
endif
PY := $(BIN)/python
STAMP := $(VENV)/.ready
PYTEST := $(PY) -m pytest

.DEFAULT_GOAL := help
.PHONY: help env demo test test-long lint format types imports mutants mutants-money bench docs generate check-generated \
	lock interop-env build clean

help: ## list these verbs
	@echo "micropaywall: put a price on any HTTP endpoint."
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

env: $(STAMP) ## create .venv with everything that is locked (fast when it is there)

$(STAMP): requirements/dev.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "micropaywall needs Python 3.11 or later; none was found" >&2; exit 1; }
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@echo "Installing the locked packages into $(VENV) …"
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: $(STAMP) ## play seller and buyer, step by step
	@$(PY) -m micropaywall demo

test: $(STAMP) ## the tests, at most ten minutes
	$(PYTEST) $(ARGS)

test-long: $(STAMP) ## full counts and long fuzzing; writes docs/test-long.md
	$(PY) tools/test_long.py $(ARGS)

lint: $(STAMP) ## style and formatting
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

format: $(STAMP) ## mend style and formatting
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

types: $(STAMP) ## mypy, strict
	$(PY) -m mypy

imports: $(STAMP) ## the layers of docs/architecture.md
	$(BIN)/lint-imports --no-cache

mutants: $(STAMP) ## take out each guard; its test must then fail
	$(PY) tools/mutants.py $(ARGS)

mutants-money: $(STAMP) ## the same for the money paths only
	$(PY) tools/mutants.py --money $(ARGS)

bench: $(STAMP) ## speed, side by side with the bare app; one table and JSON
	$(PY) -m benchmarks $(ARGS)

docs: generate ## write the generated parts of docs/ (the pages are Markdown, read them there)

generate: $(STAMP) ## write every generated file: reference pages, diagrams, vectors
	$(PY) tools/generate.py

check-generated: $(STAMP) ## fail when a generated file is stale
	$(PY) tools/generate.py --check

lock: $(STAMP) ## resolve the dependencies anew into requirements/
	$(PY) tools/lock.py

interop-env: $(STAMP) ## what the interoperability tests need: official clients, nginx, Node
	@$(PY) tools/interop_env.py

build: $(STAMP) ## the wheel and the source archive, in dist/
	$(PY) -m build --no-isolation

clean: ## remove the environment, caches and build products
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
