"""The experiments of the poolings' sources, repeated on real data that needs no download: python -m benchmarks.training NAME."""
