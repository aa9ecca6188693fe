# make demo | test | test-full | bench | bench-full | lint | docs | clean.  PYTHON=python3.12 takes another Python than python3; everything is installed in .venv.
PYTHON ?= python3
RUN := .venv/bin/python
PLAIN := $(wildcard tests/test_forward.py tests/test_backward.py)

.PHONY: demo test test-full bench bench-full lint docs clean
.DEFAULT_GOAL := test
# a folder .venv without pip, say, is not to pass for made
.DELETE_ON_ERROR:

demo: .venv/demo
	$(RUN) -m numbapool demo

# last comes the suite as it is: its summary closes the output
test: lint plain
	$(RUN) -m pytest -n 2 --dist worksteal -q

test-full: lint plain
	$(RUN) -m pytest -n 2 --dist worksteal -q -m "full or not full"

# the same formulas as plain Python, without a compiler between text and result
.PHONY: plain
plain: .venv/test
	$(if $(PLAIN),NUMBA_DISABLE_JIT=1 $(RUN) -m pytest -n 2 --dist worksteal -q -m "not jit and not full" $(PLAIN))

# about five minutes: writes benchmarks/results/<machine>-<date>.json, and from it the README's table of times and docs/performance.png;
# `make .venv/peers` before it adds other libraries to torch and JAX
bench: .venv/test
	$(RUN) -m benchmarks --json --report

bench-full: .venv/test
	$(RUN) -m benchmarks --full --json

lint: .venv/test
	$(RUN) -m ruff check

docs: .venv/test
	$(RUN) -c "from numbapool import document; document.write()"

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .hypothesis demo-output
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/pyvenv.cfg:
	$(PYTHON) -m venv .venv

# a file .venv/EXTRA says that `.[EXTRA]` is installed as the metadata now stands; the package itself is used from this folder
.venv/demo .venv/test .venv/peers: .venv/%: .venv/pyvenv.cfg setup.cfg pyproject.toml
	$(RUN) -m pip install --quiet --editable '.[$*]'
	touch $@
