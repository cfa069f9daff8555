# Every target makes .venv when it is missing. `make help` lists them.
PYTHON ?= python3
BIN := .venv/bin
# A file of versions for pip; empty for the newest ones.
CONSTRAINTS ?= constraints/tested.txt
# A GPU machine has a torch of its own, beside which nothing is installed.
GPU_PYTHON ?= python3
PIP_INSTALL = $(BIN)/python -m pip install --quiet $(if $(CONSTRAINTS),--constraint $(CONSTRAINTS)) --editable

.DEFAULT_GOAL := help
.PHONY: help demo test coverage reliability style lint docs bench gpu clean

help:  ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

$(BIN)/python:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip

.venv/installed: $(BIN)/python setup.cfg setup.py $(CONSTRAINTS)
	$(PIP_INSTALL) .
	@touch $@

.venv/installed-test: .venv/installed
	$(PIP_INSTALL) '.[test]'
	@touch $@

demo: .venv/installed  ## a fresh seed of a published study: does it agree? Four minutes, and a report
	$(BIN)/python verify.py demo

test: style  ## style and tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

coverage: .venv/installed-test  ## tests with the share of lines they run, per file; half as long again
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal --cov --cov-report=term:skip-covered

reliability: .venv/installed-test  ## thirty checks of docs/reliability.md in full, with their table; half an hour
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --reliability -p no:cacheprovider -W ignore

style: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

lint: style  ## style, docstrings and types; two minutes
	PYRIGHT_PYTHON_GLOBAL_NODE=0 PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright --pythonpath $(BIN)/python

docs: .venv/installed-test  ## HTML documentation in docs/_build
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build

bench: .venv/installed  ## speed of every part, one JSON object each, and what moved since the last record; several minutes
	@$(BIN)/python benchmarks/all.py

gpu:  ## on a machine with a GPU: its tests, speed at published sizes, a sweep; at most 9 minutes each, again goes on
	$(GPU_PYTHON) benchmarks/gpu.py $(GPU_OPTIONS)

clean:  ## remove runs and built documentation (never the environment)
	rm -rf runs docs/_build
