# Everything is done in .venv, which the first target makes. `make` alone lists the targets.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

# constraints: the versions of constraints.txt; lowest: the lower bounds of pyproject.toml; newest: what pip finds.
DEPENDENCIES ?= constraints
VERSIONS-constraints := --constraint constraints.txt
VERSIONS-lowest := --constraint $(VENV)/lowest.txt
LOWEST := $(if $(filter lowest,$(DEPENDENCIES)),$(VENV)/lowest.txt)
VERSIONS-newest := --upgrade --upgrade-strategy eager
VERSIONS := $(or $(VERSIONS-$(DEPENDENCIES)),$(error DEPENDENCIES=$(DEPENDENCIES): expected constraints, lowest or newest))
# What is never imported is not compiled, which saves a minute; what is, once: Python keeps it, whatever the environment says.
unexport PYTHONDONTWRITEBYTECODE
PIP := $(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check $(VERSIONS)

# Test files run in parallel, one process per core; each file stays in one process, so that its fixtures are made once.
JOBS ?= auto
# Of `make soak`.
BREASTS ?= 5000
# Percent of lines that the tests reach in their own process, measured; raise it with the figure.
COVERAGE := 96
RUN_TESTS := pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder

.PHONY: help demo demo-full test test-fast coverage reliability soak compare lint docs bench clean
.DEFAULT_GOAL := help

help: ## list these targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

demo: $(VENV)/.demo | .dvc/tmp/site ## environment, real and simulated mammograms, shards, training, tables, report: dvc repro
	OMP_NUM_THREADS=2 dvc repro # as many on each machine: PyTorch splits its sums among threads, and others end in other weights
	@echo
	@fvpipe summary
	@echo
	@echo "The report: $(CURDIR)/cache/reports/report.html"

# On so few simulated breasts its numbers mean nothing; it shows that the whole grid of the paper runs.
FULL := $(foreach split,seen seen-vindr seen-cmmd cross-vindr-cmmd cross-cmmd-vindr unseen,--split $(split)) \
  --model resnet18 --model cnn --pipeline direct --pipeline cropped
demo-full: demo ## then the grid of the paper: six splits, two models, two pipelines, and Table 2
	fvpipe train $(FULL)
	fvpipe table2 $(FULL)

test: $(VENV)/.test ## environment, then all tests but slow ones; make test PYTEST="-k segment" for a part
	$(RUN_TESTS) $(PYTEST)

test-fast: $(VENV)/.test ## the tests that start no other process: under a minute
	$(RUN_TESTS) -m "not slow and not fuzz and not process" $(PYTEST)

coverage: $(VENV)/.test ## all tests, slow ones too, with a report of what they cover; less than before fails
	$(RUN_TESTS) -m "not fuzz" --cov=fvpipe --cov-report=term:skip-covered --cov-fail-under=$(COVERAGE) $(PYTEST)

reliability: $(VENV)/.test ## the tests of faults; writes docs/reliability.md
	JOBS=$(JOBS) python -m tests.faults

soak: $(VENV)/.test ## a build of BREASTS=5000 under fire: faulty files, killed and stopped workers, a full disk
	python -m benchmarks soak --breasts $(BREASTS)

compare: $(VENV)/.test ## pipelines and controls judged on simulated lesions: the table of docs/adaptive.md
	python -m benchmarks compare --full

lint: $(VENV)/.test ## ruff, mypy, import contracts, spelling, large files
	ruff check .
	ruff format --check .
	mypy
	lint-imports
	codespell
	python .ci/large_files.py

docs: $(VENV)/.demo ## reason codes and images of the documentation, after `make demo`
	python docs/build.py

bench: $(VENV)/.bench ## environment, then all benchmarks, quick; BENCH="--full" for the sizes of docs/performance.md
	python -m benchmarks $(BENCH)

clean: ## remove what can be rebuilt: environment, cache, simulated data
	rm -rf $(VENV) cache/shards cache/samples cache/models cache/checkpoints cache/reports cache/bench
	rm -rf data/cbis data/phantom-vindr data/phantom-cmmd data/phantom-lesions

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and "fvpipe needs Python 3.11 to 3.13; try: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/lowest.txt: pyproject.toml .ci/lowest.py | $(BIN)/python
	$(BIN)/python .ci/lowest.py > $@

# DVC keeps names and digests of files in /var/tmp, where every user of the machine may read and replace them. An absolute path
# is needed: DVC takes a relative one, as in .dvc/config, from wherever it runs.
.dvc/tmp/site: | $(VENV)/.demo
	mkdir -p -m 700 $@
	dvc config --local core.site_cache_dir '$(CURDIR)/$@' || { rmdir $@; exit 1; }

# Stamps: an environment is made again when what it is made from changes.
$(VENV)/.demo: pyproject.toml constraints.txt $(LOWEST) | $(BIN)/python
	$(PIP) --editable '.[demo,train,dvc,figures]'
	@touch $@

$(VENV)/.bench: pyproject.toml constraints.txt $(LOWEST) | $(BIN)/python
	$(PIP) --editable '.[bench,demo,dvc]'
	@touch $@ $(VENV)/.demo

$(VENV)/.test: pyproject.toml constraints.txt $(LOWEST) | $(BIN)/python
	$(PIP) --editable '.[all,test]'
	@touch $@ $(VENV)/.demo $(VENV)/.bench
