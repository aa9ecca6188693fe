"""Fixtures of several files."""
from capi_library import library  # noqa: F401
