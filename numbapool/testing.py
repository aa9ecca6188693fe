"""Checks for users of numbapool, and its own tests': hypothesis strategies for valid calls, and laws that poolings keep."""
from __future__ import annotations

TOLERANCE = {  # (relative to the result, absolute for inputs of size 1) rounding errors of sums of up to some hundred terms
    "float64": (1e-12, 1e-13),
    "float32": (4e-6, 2e-6),
    "float16": (1e-3, 1e-3),
    "bfloat16": (8e-3, 8e-3),
}
