"""Builds the C library: kernels ahead of time, C sources, headers and packages."""
