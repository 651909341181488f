# Every target sets itself up; the second run finds its environment ready.
#
# Where Python is told to keep no compiled files, each of the hundreds of processes that tests start
# would compile the package anew.
export PYTHONDONTWRITEBYTECODE :=
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help setup demo test check core docs results bench clean

help:
	@echo "make demo   train on real MovieLens data and print recall/NDCG at every granularity, and what each byte buys"
	@echo "make test   run the tests"
	@echo "make check  style, types, the import contracts, figures beside their results files, the site of docs/"
	@echo "make docs   serves the site of docs/ and builds it again as its pages change"
	@echo "make results  fills the tables of README, docs and config headers from results/*.json"
	@echo "make core   install the core alone into a clean environment and serve bundles there"
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

# The variable silences an advertisement of the theme.
DOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs

TEST_ARGS ?=
DEMO_RUN ?= runs/demo
DEMO_ARGS ?=
DEMO_SWEEP := 'granularities=[8,16,32]' 'indexes=[scan]' 'keeps=[50,100,200]'

demo: setup
	$(BIN)/recsys prepare ml-100k --if-missing
	$(BIN)/recsys train configs/ml100k_sasrec.yaml $(DEMO_ARGS) --out $(DEMO_RUN) --resume
	$(BIN)/recsys show $(DEMO_RUN) --user 196 --granularity 16,256
	$(BIN)/recsys evaluate $(DEMO_RUN)
	$(BIN)/recsys report $(DEMO_RUN)
	$(BIN)/recsys tradeoff $(DEMO_RUN) $(DEMO_SWEEP) --users 0
	$(BIN)/recsys export $(DEMO_RUN) $(DEMO_RUN)/bundle --columns title,genres --stages 32:200,256
	@echo "look at it: $(BIN)/recsys serve $(DEMO_RUN)/bundle, then open http://127.0.0.1:8000"

# Each worker takes neighbouring tests, which share what is set up once for a file.
test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal $(TEST_ARGS)

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m recsys.reports.results --check
	$(DOCS) build --strict --quiet

docs: setup
	$(DOCS) serve

results: setup
	$(BIN)/python -m recsys.reports.results

core: setup
	$(BIN)/python packaging/core_install/check.py $(CORE_RUN)

bench: setup
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
