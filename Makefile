# Every target sets itself up; the second run finds its environment ready.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help setup demo test check bench clean

help:
	@echo "make demo   train on real MovieLens data and print recall/NDCG at every granularity, and what each byte buys"
	@echo "make test   run the tests"
	@echo "make check  style, types and the import contracts"
	@echo "make bench  the benchmarks (ratios within one run)"
	@echo "make clean  remove the environment and everything that was built"

setup: $(STAMP)

$(STAMP): pyproject.toml packaging/fbgemm-gpu-shim/pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet torch==2.13.0 ./packaging/fbgemm-gpu-shim -e '.[dev]'
	$(BIN)/python -m pip check
	$(BIN)/recsys doctor
	@touch $@

DEMO_RUN ?= runs/demo
DEMO_ARGS ?=
DEMO_SWEEP := 'granularities=[8,16,32]' 'indexes=[scan]' 'keeps=[50,100,200]'

demo: setup
	$(BIN)/recsys prepare ml-100k --if-missing
	$(BIN)/recsys train configs/ml100k_sasrec.yaml $(DEMO_ARGS) --out $(DEMO_RUN) --resume
	$(BIN)/recsys evaluate $(DEMO_RUN)
	$(BIN)/recsys report $(DEMO_RUN)
	$(BIN)/recsys tradeoff $(DEMO_RUN) $(DEMO_SWEEP) --users 0

test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
