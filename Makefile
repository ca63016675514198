# The README's two commands, each with a virtual environment of its own. They need Python 3.10 or newer and pip's index.
PYTHON ?= python3
SOURCES := $(shell find edgepose export calibration benchmarks -type f ! -name '*.pyc')

.PHONY: help test test-all test-oldest demo clean

help:
	@echo "make demo      try edgepose on its embedded model: accuracy table, overlays, an HTML page"
	@echo "make test      install everything for development and run ./check"
	@echo "make test-all  the same with every model of the zoo, not one of each family, and all faults"
	@echo "make test-oldest  the whole chain on the oldest versions that pyproject.toml promises (some gigabytes)"
	@echo "make clean     remove both virtual environments, caches and the demo's output"

test: .venv/installed
	PYTHON=.venv/bin/python ./check

test-all: .venv/installed
	EDGEPOSE_TEST_ALL=1 PYTHON=.venv/bin/python ./check

# Each extra as a user of old packages would have it: the chain, then its INT8 file on a machine with `cpu` alone.
test-oldest: .venv-oldest/installed
	.venv-oldest/bin/edgepose demo --out demo_output/oldest
	for file in .onnx .fp16.onnx .int8.onnx; do .venv-oldest/cpu/bin/edgepose infer --boxes whole --no-save-overlay \
		--engine demo_output/oldest/simplebaseline_tiny$$file --input demo_output/oldest/scene.jpg --out demo_output/oldest/poses \
		|| exit 1; done

.venv-oldest/installed: setup.py pyproject.toml constraints-oldest.txt $(SOURCES)
	$(PYTHON) -m venv .venv-oldest
	$(PYTHON) -m venv .venv-oldest/cpu
	@echo "installing the oldest versions into .venv-oldest: some minutes"
	.venv-oldest/bin/python -m pip install --quiet --constraint constraints-oldest.txt '.[workstation,video,plot]'
	.venv-oldest/cpu/bin/python -m pip install --quiet --constraint constraints-oldest.txt '.[cpu]'
	touch $@

demo: .venv-demo/installed
	.venv-demo/bin/edgepose demo --out demo_output

# Reinstalled when what is to be installed has changed; `demo` installs a copy, so it depends on the sources too.
.venv/installed: setup.py pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	@echo "installing into .venv: some minutes"
	.venv/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

.venv-demo/installed: setup.py pyproject.toml constraints.txt $(SOURCES)
	$(PYTHON) -m venv .venv-demo
	@echo "installing into .venv-demo: some minutes"
	.venv-demo/bin/python -m pip install --quiet --constraint constraints.txt '.[workstation,plot]'
	touch $@

clean:
	rm -rf .venv .venv-demo .venv-oldest build dist edgepose.egg-info demo_output .mypy_cache .pytest_cache .ruff_cache
