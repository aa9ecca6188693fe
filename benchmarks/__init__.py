"""Benchmarks of numbapool: `python -m benchmarks` from the repository's root; `--help` says more."""
