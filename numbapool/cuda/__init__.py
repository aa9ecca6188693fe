"""The GPU: kernels compiled by numba-cuda at first use, launched through the CUDA driver on the caller's stream.

Nothing here is imported before a call meets an array on a CUDA device.  intrinsics.py holds all that is numba-cuda's own, driver.py all that is
the driver's; the loops are loops/cuda's, the formulas those of every device.
"""
