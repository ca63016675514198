# The README's two commands, each with a virtual environment of its own. They need Python 3.10 or newer and pip's index.
PYTHON ?= python3

.PHONY: help test test-all demo clean

help:
	@echo "make demo      try edgepose on its embedded model: accuracy table, overlays, an HTML page"
	@echo "make test      install everything for development and run ./check"
	@echo "make test-all  the same with every model of the zoo, not one of each family, and all faults"
	@echo "make clean     remove both virtual environments, caches and the demo's output"

test: .venv/installed
	PYTHON=.venv/bin/python ./check

test-all: .venv/installed
	EDGEPOSE_TEST_ALL=1 PYTHON=.venv/bin/python ./check

demo: .venv-demo/installed
	.venv-demo/bin/edgepose demo --out demo_output

# Reinstalled when what is to be installed has changed; `demo` installs a copy, so it depends on the sources too.
.venv/installed: setup.py pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	@echo "installing into .venv: some minutes"
	.venv/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

.venv-demo/installed: setup.py pyproject.toml constraints.txt $(shell find edgepose export calibration benchmarks -type f ! -name '*.pyc')
	$(PYTHON) -m venv .venv-demo
	@echo "installing into .venv-demo: some minutes"
	.venv-demo/bin/python -m pip install --quiet --constraint constraints.txt '.[workstation]'
	touch $@

clean:
	rm -rf .venv .venv-demo build dist edgepose.egg-info demo_output .mypy_cache .pytest_cache .ruff_cache
