"""Sum pooling: y = sum x over the elements of the window; padding adds nothing.

Source: numpy.sum over windows, as skimage.measure.block_reduce and xarray's coarsen take it.  Integers and bool are summed as int64, exactly
(as NumPy's they wrap at 2^63); all else in its own dtype.  With ignore_nan NaN counts as nothing.

Gradient: dy/dx_i = 1.
"""
from ..numeric import real
from ..parameters import IGNORE_NAN
from . import avg, nansum

title = "sum"
family = "fold"
equation = "y = Σ xᵢ"
gradient = "1"
source = "numpy.sum over windows"
forms = ("sliding", "adaptive", "global")
recompute = False
wide_integers = True
common, start, step, spread = avg.common, avg.start, avg.step, avg.spread
parameters = (IGNORE_NAN,)


def share(own):
    """Windows do not count."""
    return "one"


def ignoring_nan(own):
    """The formula that leaves NaN out."""
    return nansum


def stop(acc, ref, n):
    return acc[0]


def terms(acc, ref, n):
    return (real(1),)
