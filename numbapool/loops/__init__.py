"""HOW: the loops, one module a device.  They know memory and order; what a window computes is bound by `stamp`."""
