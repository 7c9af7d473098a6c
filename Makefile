# make run     set everything up if needed, then open the window
# make test    the whole test suite, without network, display or GPU
# make lint    style, types and the architecture
# make bench   timings beside the published methods
# make real    every analysis on a trained model, which is downloaded once
# make opens   rewrite the help page of what opens, from the tables in the code
# make setup   only the set-up; make clean removes caches (and `rm -rf .venv` the environment)

SHELL := /bin/bash
.DEFAULT_GOAL := run
.PHONY: setup run test lint bench real opens clean

# Python 3.11 first: the pinned versions in constraints.txt were tested together there.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys, ensurepip, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null \
	&& echo $$p && break; done)
VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready

setup: $(READY)

$(PY):
	@if [ -z "$(PYTHON)" ]; then \
		echo "Eigenscope needs Python 3.11, 3.12 or 3.13 with its venv module, and found none. Install one" \
		"(Debian, Ubuntu: sudo apt-get install python3-venv) or name it: make setup PYTHON=path/to/python3.11" >&2; \
		exit 1; fi
	$(PYTHON) -m venv $(VENV)

# torch comes first and alone, so that the pinned build is there before anything else asks for one.
$(READY): $(PY) pyproject.toml constraints.txt packaging/qt_libs.sh
	$(PY) -m pip install --disable-pip-version-check -c constraints.txt torch
	$(PY) -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	bash packaging/qt_libs.sh $(PY)
	@touch $@

run: $(READY)
	$(PY) main.py

# One thread a worker: two workers with a thread pool each would fight over the cores.
test: $(READY)
	QT_QPA_PLATFORM=offscreen HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(PY) -m pytest -n 2

lint: $(READY)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(VENV)/bin/lint-imports

bench: $(READY)
	$(PY) -m benchmarks

real: $(READY)
	$(PY) -m benchmarks.real

opens: $(READY)
	$(PY) main.py info > resources/help/opens.md

clean:
	rm -rf build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache $(READY)
	find engine gui tests benchmarks main.py -name __pycache__ -type d -prune -exec rm -rf {} +
