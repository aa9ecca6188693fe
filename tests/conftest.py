"""Fixtures of several files."""
import os

from capi_library import library  # noqa: F401

os.environ["NUMBAPOOL_JAX_FFI"] = "0"  # tests of numbapool.jax compare bits; test_jax_ffi.py takes the C library
