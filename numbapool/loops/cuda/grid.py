"""The kernels themselves: every thread of a grid takes an item, and every row of blocks takes planes."""
from __future__ import annotations

from .layout import *  # noqa: F403


def kernel(f, o):
    """All tasks of a launch."""
    thread(header(f), records(o), block_x(), block_y(), blocks_y(), threads(), own_thread())


def thread(f, o, x, y, height, size, t):
    """The tasks of thread t of the `size` of block (x, y): 1 << ITEM_BITS of them lie along the items, the rest along the planes."""
    across = f[ITEM_BITS]
    i = (x << across) + (t & ((1 << across) - 1))
    if i < f[ITEMS]:
        z = y * (size >> across) + (t >> across)
        while z < f[PLANES]:  # a range with a step would divide to know its length
            task(f, o, ix(i), z)
            z += height * (size >> across)
