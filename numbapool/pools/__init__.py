"""WHAT: one file a pooling, with its paper, its equation, its gradient, and the few scalar functions that are compiled for
every target.  The contract of a formula stands in kernels.py, that of the other names of a file in pool.py."""
