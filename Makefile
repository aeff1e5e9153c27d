# One word each. `make demo` and `make test` set up what they need.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
PYTHON ?= python3.11
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
TORCH := torch==2.13.0
TWO_PROCESSES := -n 2 --dist loadgroup --no-loadscope-reorder

.PHONY: demo test test-ci test-slow check figures mutate coverage docs repro bench lock up down ui clean

demo: .venv/ready
	$(BIN)/assay demo

# In CI the gates' own tests also measure coverage: every branch of the gates must run.
test: .venv/ready
	$(if $(CI),infra/coverage.sh,$(BIN)/pytest) $(TWO_PROCESSES)

test-ci: .venv/ready
	$(BIN)/pytest $(TWO_PROCESSES) -m "ci and not (slow or gpu)"

test-slow: .venv/ready
	infra/debian.sh buildah mmdebstrap
	$(BIN)/pytest --shuffle $$RANDOM -m "slow or gpu"

check: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

figures: .venv/ready
	$(BIN)/python infra/figures.py

docs: .venv/ready
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

mutate: .venv/ready
	$(BIN)/python infra/mutate.py

coverage: .venv/ready
	infra/coverage.sh

repro: .venv/ready
	$(BIN)/dvc repro

bench: .venv/ready
	$(BIN)/python -m benchmarks.flow
	$(BIN)/python -m benchmarks.promote
	$(BIN)/python -m benchmarks.canary
	$(BIN)/python -m benchmarks.gate
	$(BIN)/python -m benchmarks.serve

up: .venv/ready
	$(BIN)/assay up

down: .venv/ready
	$(BIN)/assay down

ui: .venv/ready
	$(BIN)/assay ui

lock: .venv/ready
	infra/lock.sh --upgrade

.venv/ready: requirements.lock pyproject.toml infra/setup.sh
	infra/setup.sh "$(PYTHON)" "$(TORCH)"
	touch $@

clean:
	rm -rf site .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis
