"""HOW on a GPU: one thread a window, or an input element, or a few of them side by side; gather backward, no atomics."""
