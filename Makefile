# Everything is done in .venv, which the first target makes. `make` alone lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: help demo test lint docs bench clean
.DEFAULT_GOAL := help

help: ## list these targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

demo: $(VENV)/.demo ## environment, real and simulated mammograms, shards, training, tables, report: dvc repro
	dvc repro
	@echo
	@echo "The report: $(CURDIR)/cache/reports/report.html"

test: $(VENV)/.test ## environment, then all tests
	pytest $(PYTEST)

lint: $(VENV)/.test ## ruff and mypy
	ruff check .
	ruff format --check .
	mypy

docs: $(VENV)/.demo ## reason codes and images of the documentation, after `make demo`
	python docs/build.py

bench: $(VENV)/.bench ## environment, then all benchmarks, quick; BENCH="--full" for the sizes of docs/performance.md
	python -m benchmarks $(BENCH)

clean: ## remove what can be rebuilt: environment, cache, simulated data
	rm -rf $(VENV) cache/shards cache/samples cache/models cache/checkpoints cache/reports cache/bench
	rm -rf data/cbis data/phantom-vindr data/phantom-cmmd

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and "fvpipe needs Python 3.11 to 3.13; try: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

# Stamps: an environment is made again when what it is made from changes.
$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable '.[demo,train,dvc]'
	@touch $@

$(VENV)/.bench: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable '.[bench,demo,dvc]'
	@touch $@ $(VENV)/.demo

$(VENV)/.test: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable '.[all,test]'
	@touch $@ $(VENV)/.demo $(VENV)/.bench
