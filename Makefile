# make demo | test | test-full | test-gpu | capi | capi-cuda | wheel | bench | bench-full | bench-gpu | training | lint | docs | clean.  PYTHON=python3.12 takes another Python than python3; everything is installed in .venv.
PYTHON ?= python3
CUDA ?= cuda13
RUN := .venv/bin/python
PLAIN := $(wildcard tests/test_forward.py tests/test_backward.py)
# these compile some hundred kernels for an emulated device: processes of their own, whose memory nobody forks
EMULATED := $(wildcard tests/test_cuda.py tests/test_cuda_calls.py tests/test_cuda_compile.py tests/test_capi_cuda.py)
REST := $(EMULATED:%=--ignore=%)

.PHONY: demo test test-full test-gpu capi capi-cuda capi-few wheel bench bench-full bench-gpu training lint docs clean
.DEFAULT_GOAL := test
# a folder .venv without pip, say, is not to pass for made
.DELETE_ON_ERROR:

demo: .venv/demo
	$(RUN) -m numbapool demo

# last comes the suite as it is: its summary closes the output
test: lint plain cuda capi-few
	NUMBAPOOL_CAPI=build/capi-few $(RUN) -m pytest -n 2 --dist worksteal -q $(REST)

# with the whole C library, and with its kernels for the processors before the newest, which give the same bits
test-full: MARKS = not jit
test-full: lint plain capi
	for file in $(EMULATED); do $(RUN) -m pytest -n 2 --dist worksteal -q -m "not gpu" $$file || exit 1; done
	NUMBAPOOL_CAPI=build/capi $(RUN) -m pytest -n 2 --dist worksteal -q -m "not gpu" $(REST)
	NUMBAPOOL_CAPI=build/capi NUMBAPOOL_ISA=x86-64-v3 $(RUN) -m pytest -n 2 --dist worksteal -q -m "not gpu" tests/test_capi.py

# kernels for a GPU without one
.PHONY: cuda
cuda: .venv/test
	$(if $(EMULATED),$(RUN) -m pytest -n 2 --dist worksteal -q $(EMULATED))

# on a machine with a CUDA device; torch or CuPy, for that device, is looked for in the environment that PYTHON names
test-gpu: .venv/gpu
	$(RUN) -m pytest -q -m gpu tests/test_gpu.py

bench-gpu: .venv/gpu
	$(RUN) -m benchmarks gpu --json

# the same formulas as plain Python, without a compiler between text and result
.PHONY: plain
MARKS = not jit and not full
plain: .venv/test
	$(if $(PLAIN),NUMBA_DISABLE_JIT=1 $(RUN) -m pytest -n 2 --dist worksteal -q -m "$(MARKS)" $(PLAIN))

# about five minutes: writes benchmarks/results/<machine>-<date>.json, and from it the README's table of times and docs/performance.png;
# `make .venv/peers` before it adds other libraries to torch and JAX
bench: .venv/test
	$(RUN) -m benchmarks --json --report

# the experiments of the poolings' sources, about half an hour: results, pictures and the README's section
training: .venv/training
	for name in swap sort fractional cost report; do $(RUN) -m benchmarks.training $$name || exit 1; done

bench-full: .venv/test
	$(RUN) -m benchmarks --full --json

# the C library, in build/capi: include/numbapool.h, lib/libnumbapool.so and .a; what is unchanged is not compiled again
capi: .venv/capi
	$(RUN) -m capi.build

# with kernels for CUDA devices: some 2400 more to compile, a quarter of an hour and 23 megabytes more; `make capi-cuda CUDA=cuda12` by the other toolkit
capi-cuda: .venv/capi
	$(RUN) -m pip install --quiet --editable '.[$(CUDA)]'
	$(RUN) -m capi.build --cuda

# the same of the kernels that tests need, for this machine alone: two minutes instead of six
capi-few: .venv/test
	$(RUN) -m capi.build --few --native --out build/capi-few

# dist/numbapool-VERSION-py3-none-PLATFORM.whl, with the C library inside
wheel: capi
	NUMBAPOOL_BUILD_CAPI=library $(RUN) -m pip wheel --quiet --no-deps --wheel-dir dist .

lint: .venv/test
	$(RUN) -m ruff check

docs: .venv/test
	$(RUN) -c "from numbapool import document; document.write()"

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .hypothesis demo-output
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/pyvenv.cfg:
	$(PYTHON) -m venv .venv

# torch built for the device is the machine's own business: it is gigabytes, and which build suits depends on the driver
.venv/gpu: setup.cfg pyproject.toml
	$(PYTHON) -m venv --system-site-packages .venv
	$(RUN) -m pip install --quiet --editable '.[$(CUDA)]' 'pytest>=8' hypothesis ml_dtypes
	touch $@

# a file .venv/EXTRA says that `.[EXTRA]` is installed as the metadata now stands; the package itself is used from this folder
.venv/demo .venv/test .venv/peers .venv/capi .venv/training: .venv/%: .venv/pyvenv.cfg setup.cfg pyproject.toml
	$(RUN) -m pip install --quiet --editable '.[$*]'
	touch $@
