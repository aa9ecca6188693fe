"""What every pooling computes, one window at a time, in plain float64 NumPy.

This file is the specification the tests compare against. It imports nothing of the library and shares none of its arithmetic: windows are
found by listing positions and keeping those inside, formulas are written as in their papers. Slow on purpose.

v is a window: the 1-d float64 array of its in-bounds elements in row-major order. A window on one axis is a pair (indices, count): the
in-bounds input indices in ascending order, and how many taps lie in the padded input. An axis is a list of windows, one for each output.
"""

from math import comb

import numpy as np

# Where the windows are, one axis at a time.


def sliding(size, kernel, stride=None, before=0, after=0, dilation=1, ceil_mode=False):
    """Windows at -before, -before + stride, ... that fit in [-before, size + after).

    With ceil_mode a window may reach up to stride - 1 past that end, if it starts inside the input or the padding before it.
    The taps that reach past it never count.
    """
    stride = kernel if stride is None else stride
    end = size + after
    windows = []
    start = -before
    while True:
        taps = [start + dilation * tap for tap in range(kernel)]
        overhang = taps[-1] - (end - 1)
        if overhang > (stride - 1 if ceil_mode else 0) or (ceil_mode and start >= size):
            return windows
        windows.append(([tap for tap in taps if 0 <= tap < size], sum(tap < end for tap in taps)))
        start += stride


def resolve_padding(size, kernel, stride, dilation, padding):
    """(before, after) of one axis from an int, a pair, "valid", "same" (surplus after) or "same_lower" (surplus before).

    same: out = ceil(size / stride), before + after = max((out - 1) * stride + dilation * (kernel - 1) + 1 - size, 0).
    """
    if padding == "valid":
        return 0, 0
    if padding in ("same", "same_lower"):
        out = len(range(0, size, stride))
        total = max((out - 1) * stride + dilation * (kernel - 1) + 1 - size, 0)
        small, large = total // 2, total - total // 2
        return (small, large) if padding == "same" else (large, small)
    return (padding, padding) if np.ndim(padding) == 0 else tuple(padding)


def sliding_axes(spatial, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False):
    """The axes of a plain pooling; each argument is one value for all axes or a sequence with one entry per axis."""

    def each(value):
        return [value] * len(spatial) if isinstance(value, str) or np.ndim(value) == 0 else list(value)

    strides = each(kernel_size if stride is None else stride)
    axes = []
    for size, k, s, p, d in zip(spatial, each(kernel_size), strides, each(padding), each(dilation), strict=True):
        axes.append(sliding(size, k, s, *resolve_padding(size, k, s, d, p), d, ceil_mode))
    return axes


def adaptive(size, out):
    """Window i holds every cell [j, j + 1) that overlaps [i * size / out, (i + 1) * size / out)."""
    axis = []
    for i in range(out):
        indices = [j for j in range(size) if (j + 1) * out > i * size and j * out < (i + 1) * size]
        axis.append((indices, len(indices)))
    return axis


def fractional_torch(size, kernel, out, u):
    """start_i = int((i + u) * alpha) - int(u * alpha), alpha = (size - kernel) / (out - 1); the last start is size - kernel.

    Computed in u's type: float64 for a Python float or a float64, float32 for anything narrower.
    """
    scalar = np.float64 if isinstance(u, float) else np.float32
    u, starts = scalar(u), []
    if out > 1:
        alpha = scalar(size - kernel) / scalar(out - 1)
        starts = [int((scalar(i) + u) * alpha) - int(u * alpha) for i in range(out - 1)]
    return [(list(range(start, start + kernel)), kernel) for start in [*starts, size - kernel]]


def boundaries(sequence, overlapping=False):
    """TensorFlow's regions: a_r ... a_(r+1) - 1, or with overlapping a_r ... a_(r+1), cut at the last index."""
    size, axis = int(sequence[-1]), []
    for first, following in zip(sequence[:-1], sequence[1:], strict=True):
        indices = [j for j in range(size) if first <= j < following or (overlapping and j == following)]
        axis.append((indices, len(indices)))
    return axis


# What is computed in one window.


def maximum(v):
    """y = max v, with its position: the first among equals; the last NaN if there is one."""
    chosen = 0
    for i in range(len(v)):
        if v[i] > v[chosen] or np.isnan(v[i]):
            chosen = i
    return v[chosen], chosen


def minimum(v):
    """y = min v, with its position: the first among equals; the last NaN if there is one."""
    chosen = 0
    for i in range(len(v)):
        if v[i] < v[chosen] or np.isnan(v[i]):
            chosen = i
    return v[chosen], chosen


def avg(v, n):
    """y = sum v / n; `divisors` gives n."""
    return v.sum() / n


def total(v):
    """y = sum v."""
    return v.sum()


def std(v, correction=0.0):
    """y = sqrt(sum (v - mean v)^2 / (len(v) - correction)); NaN where no more elements than the correction are there."""
    return np.sqrt(((v - v.mean()) ** 2).sum() / (len(v) - correction)) if len(v) > correction else np.nan


def known(formula, v, **own):
    """A formula of the elements that are not NaN; of a window that has no other NaN (a sum: 0), at its first position."""
    there = np.flatnonzero(~np.isnan(v))
    if not len(there):
        nothing = 0.0 if formula is total else np.nan
        return (nothing, 0) if formula in (maximum, minimum) else nothing
    found = formula(v[there], **own)
    return (found[0], there[found[1]]) if isinstance(found, tuple) else found


def known_avg(v, n, counts):
    """y = the sum of the elements that are not NaN over n, less how many are NaN if n counts."""
    missing = np.isnan(v).sum()
    n = n - missing if counts else n
    return v[~np.isnan(v)].sum() / n if n else np.nan


def lp(v, p, n=1):
    """y = (sum |v|^p / n)^(1/p), n = 1 for the norm and len(v) for the power mean; p = +-inf gives max|v| and min|v|.

    Divided by the largest term's |v| first, so that no power overflows. An all-zero window gives 0.
    """
    a = np.abs(v)
    scale = a.max() if p > 0 else a.min()
    if np.isnan(a).any():
        return np.nan
    if np.isinf(p) or scale == 0 or np.isinf(scale):
        return scale
    return scale * (((a / scale) ** p).sum() / n) ** (1 / p)


def gem(v, p=3.0, eps=1e-6):
    """y = (mean max(v, eps)^p)^(1/p)."""
    return lp(np.maximum(v, eps), p, len(v))


def lse(v, r=1.0):
    """y = (1/r) log(mean exp(r v)), shifted by the element that dominates; r = 0 is the limit, the mean."""
    if np.isnan(v).any():
        return np.nan
    if r == 0:
        return v.mean()
    peak = v.max() if r > 0 else v.min()
    if np.isinf(peak):
        return peak
    return peak + np.log1p(np.expm1(r * (v - peak)).mean()) / r


def soft(v, temperature=1.0):
    """y = sum w v, w = softmax(v / temperature); also swap's. v e^v -> 0 for v -> -inf, so -inf drops out unless all are -inf."""
    if np.isnan(v).any():
        return np.nan
    peak = v.max() if temperature > 0 else v.min()
    if np.isinf(peak):
        return peak
    w = np.exp((v - peak) / temperature)
    part = ~np.isinf(v)
    return (w[part] * v[part]).sum() / w[part].sum()


def auto(v, alpha):
    """y = sum w v, w = softmax(alpha v); alpha = 0 is the mean."""
    return v.mean() if alpha == 0 else soft(v, 1 / alpha)


def lip(v, logits):
    """y = sum w v, w = softmax(logits).

    A logit of -inf drops its element, +inf logits share all the weight, logits that are all -inf share it equally. Every other weight
    is positive, however small, so an infinite v decides (inf - inf is NaN).
    """
    if np.isnan(v).any() or np.isnan(logits).any():
        return np.nan
    top = logits.max()
    part = logits == top if np.isinf(top) else logits > -np.inf
    v, logits = v[part], logits[part]
    if np.isinf(top) or np.isinf(v).any():
        return v.mean()
    w = np.exp(logits - top)
    return (w * v).sum() / w.sum()


def sort(v, weight):
    """y = sum softmax(weight)_r v_(r), v_(0) the largest; the first n weights if there are more than n elements, and vice versa."""
    taken = min(len(v), len(weight))
    return np.nan if np.isnan(v).any() else lip(np.sort(v)[::-1][:taken], weight[:taken])


def ordinal(v, weight):
    """y = sum weight_r v_(r) / sum weight_r, v_(0) the largest, over the first min(len(v), len(weight))."""
    taken = min(len(v), len(weight))
    if np.isnan(v).any():
        return np.nan
    return (weight[:taken] * np.sort(v)[::-1][:taken]).sum() / weight[:taken].sum()


def rank(v, t=None, alpha=None):
    """t: y = mean of the min(t, n) largest. alpha: y = sum_r alpha (1 - alpha)^(r - 1) v_(r), r = 1 the largest, not normalised."""
    if np.isnan(v).any():
        return np.nan
    falling = np.sort(v)[::-1]
    if t is not None:
        return falling[:t].mean()
    return (alpha * (1 - alpha) ** np.arange(len(v)) * falling).sum()


def median(v, even="lower"):
    """y = the lower median, element (n - 1) // 2 of the ascending window; or NumPy's median, the mean of the two in the middle."""
    if even == "mean":
        return np.median(v)
    return np.nan if np.isnan(v).any() else np.sort(v)[(len(v) - 1) // 2]


def mode(v):
    """y = the most frequent element, of equally frequent ones the least, with the position of the first element equal to it; as maximum for NaN."""
    if np.isnan(v).any():
        return maximum(v)
    values, first, votes = np.unique(v, return_index=True, return_counts=True)
    return values[votes.argmax()], first[votes.argmax()]


def mixed(v, a):
    """y = a max v + (1 - a) mean v."""
    return a * v.max() + (1 - a) * v.mean()


def idw(v):
    """y = sum w v / sum w, w = 1 / |v - m|, m = mean v; its limit, m, where an element is the mean."""
    d = np.abs(v - v.mean())
    if not np.isfinite(v).all() or (d == 0).any():
        return v.mean()
    return (v / d).sum() / (1 / d).sum()


def gated(v, omega):
    """y = q max v + (1 - q) mean v, q = sigmoid(sum omega v); omega holds the kernel's entries at v's taps."""
    return mixed(v, 1 / (1 + np.exp(-(omega * v).sum())))


def ada(v, beta):
    """y = beta sum w v + (1 - beta) soft(v), w = softmax(c), c = 2 |v m| / (v^2 + m^2), m = mean v; c = 0 where v = m = 0.

    w lies between two positive bounds, so an infinite element decides that sum as it decides a mean.
    """
    m = v.mean()
    if not np.isfinite(v).all():
        return beta * m + (1 - beta) * soft(v)
    h = np.hypot(v, m)
    h[h == 0] = 1
    w = np.exp(2 * np.abs(v / h) * np.abs(m / h))
    return beta * (w * v).sum() / w.sum() + (1 - beta) * soft(v)


def stochastic(v, u):
    """y = the first v_i with v_i > 0 and max(v_0, 0) + ... + max(v_i, 0) >= u sum max(v, 0), with its position.

    The first element if none is positive, the last NaN if there is one, the first +inf if there is one.
    """
    if np.isnan(v).any() or np.isposinf(v).any():
        return maximum(v)
    running = np.cumsum(np.maximum(v, 0))
    for i in range(len(v)):
        if v[i] > 0 and running[i] >= u * running[-1]:
            return v[i], i
    return v[0], 0


def stochastic_inference(v):
    """y = sum (p_i / sum p) p_i, p = max(v, 0); 0 if no element is positive."""
    p = np.maximum(v, 0)
    if p.sum() == 0 or np.isinf(p.sum()):
        return p.sum()
    return (p / p.sum() * p).sum()


def rank_stochastic(v, u, alpha=0.5):
    """y = the r-th largest, r the first rank at which p_1 + ... + p_r >= u sum p, p_r = alpha (1 - alpha)^(r - 1), with its position; or NaN."""
    if np.isnan(v).any():
        return maximum(v)
    order = np.argsort(-v, kind="stable")
    p = alpha * (1 - alpha) ** np.arange(len(v))
    for r, running in enumerate(np.cumsum(p)):
        if running >= u * (1 - (1 - alpha) ** len(v)):
            return v[order[r]], order[r]
    return v[order[-1]], order[-1]


def rank_stochastic_inference(v, alpha=0.5):
    """y = sum p_r v_(r) / sum p."""
    p = alpha * (1 - alpha) ** np.arange(len(v))
    return np.nan if np.isnan(v).any() else (np.sort(v)[::-1] * p).sum() / p.sum()


# Whole arrays.


def divisors(axes, count_include_pad=True, divisor_override=None):
    """avg's n at every output position: the product of the axes' counts, of their in-bounds counts, or the override."""
    n = np.ones(tuple(len(axis) for axis in axes))
    if divisor_override:
        return n * divisor_override
    for out in np.ndindex(n.shape):
        for axis, o in zip(axes, out, strict=True):
            indices, count = axis[o]
            n[out] *= count if count_include_pad else len(indices)
    return n


def pool(formula, x, axes, *parameters, element=None, weight=None, return_indices=False):
    """formula(v, element's window, the channel's weight, *parameters) at every position of the output.

    x : (N, C, *spatial).  axes : the windows of each spatial axis.
    parameters : numbers, or arrays that broadcast to the output's shape, looked up at the position.
    element : of x's shape, gathered like x (lip's logits).  weight : (K,) or (C, K) (sort's and ordinal's).
    Returns y, and with return_indices what a selecting formula chose: int64, flat in the unpadded plane.
    """
    x = np.asarray(x, np.float64)
    spatial = x.shape[2:]
    shape = x.shape[:2] + tuple(len(axis) for axis in axes)
    y, chosen = np.full(shape, np.nan), np.full(shape, -1, np.int64)
    parameters = [np.broadcast_to(p, shape) for p in parameters]
    for at in np.ndindex(shape):
        plane, channel, out = at[:2], at[1], at[2:]
        indices = [np.array(axis[o][0], np.int64) for axis, o in zip(axes, out, strict=True)]
        flat = np.ravel_multi_index(np.ix_(*indices), spatial).ravel()
        operands = [x[plane].ravel()[flat]]
        if element is not None:
            operands.append(np.asarray(element[plane], np.float64).ravel()[flat])
        if weight is not None:
            operands.append(np.asarray(weight[channel] if np.ndim(weight) == 2 else weight, np.float64))
        with np.errstate(all="ignore"):
            result = formula(*operands, *(p[at] for p in parameters))
        if isinstance(result, tuple):
            result, position = result
            chosen[at] = flat[position]
        y[at] = result
    return (y, chosen) if return_indices else y


def tap_numbers(axes, kernel_size, stride, padding, dilation, spatial):
    """For each window of each axis of `sliding_axes`, which tap of the kernel each of its elements is."""
    found = []
    for axis, k, s, p, d, size in zip(axes, kernel_size, stride, padding, dilation, spatial, strict=True):
        start = -resolve_padding(size, k, s, d, p)[0]
        found.append([[(i - start - o * s) // d for i in indices] for o, (indices, _) in enumerate(axis)])
    return found


def by_position(formula, x, axes, numbers, omega):
    """formula(v, omega's entries at v's taps) at every position of the output; numbers : those of `tap_numbers`."""
    taps = {}
    for out in np.ndindex(*map(len, numbers)):
        taps[out] = omega[np.ix_(*(n[o] for n, o in zip(numbers, out, strict=True)))].ravel()
    positions = iter(list(taps) * (x.shape[0] * x.shape[1]))
    return pool(lambda v: formula(v, taps[next(positions)]), x, axes)


def max_blur(x, kernel_size=2, stride=2, filter_size=4, pad_mode="reflect"):
    """The maxima with stride 1, blurred."""
    return blur(pool(maximum, x, sliding_axes(x.shape[2:], kernel_size, 1), return_indices=True)[0], filter_size, stride, pad_mode)


def blur(x, filter_size=4, stride=2, pad_mode="reflect"):
    """The outer product of binomial rows C(f - 1, k) / 2^(f - 1) over x padded by (f - 1) // 2 before and f // 2 after."""
    ndim = x.ndim - 2
    sizes = list(filter_size) if np.ndim(filter_size) else [filter_size] * ndim
    weights = np.ones(1)
    for f in sizes:
        weights = np.outer(weights, [comb(f - 1, k) / 2 ** (f - 1) for k in range(f)]).ravel()
    mode = {"reflect": "reflect", "replicate": "edge", "constant": "constant"}[pad_mode]
    padded = np.pad(x, [(0, 0), (0, 0), *(((f - 1) // 2, f // 2) for f in sizes)], mode=mode)
    return pool(lambda v: (weights * v).sum(), padded, sliding_axes(padded.shape[2:], sizes, stride))


def dpp(x, lam, alpha, weight=None, symmetric=True):
    """Detail-preserving pooling, window by window: I is the window's mean, or the filter at twice the window's place, 1 before it."""
    ndim = x.ndim - 2
    out = tuple(n // 2 for n in x.shape[2:])
    y = np.empty((*x.shape[:2], *out))
    padded = np.pad(x, [(0, 0), (0, 0), *[(1, 1)] * ndim])
    for at in np.ndindex(y.shape):
        plane, channel, place = at[:2], at[1], at[2:]
        v = x[(*plane, *(slice(2 * o, 2 * o + 2) for o in place))].ravel()
        smooth = v.mean() if weight is None else (weight[channel] * padded[(*plane, *(slice(2 * o, 2 * o + 3) for o in place))]).sum()
        away = v - smooth if symmetric else np.maximum(v - smooth, 0)
        d = away ** 2 + 1e-3
        w = (d / d.mean()) ** (np.exp(lam[channel]) / 2) + np.exp(alpha[channel])
        y[at] = (w * v).sum() / w.sum()
    return y


def fractional_max(x, kernel_size, output_size, samples):
    """torch's fractional max: (y, indices). samples is (N, C, d); in 2-d its first column belongs to the last axis (width)."""
    dims = len(output_size)
    column = [1, 0] if dims == 2 else range(dims)
    shape = x.shape[:2] + tuple(output_size)
    y, chosen = np.full(shape, np.nan), np.full(shape, -1, np.int64)
    for n, c in np.ndindex(shape[:2]):
        axes = []
        for d in range(dims):
            axes.append(fractional_torch(x.shape[2 + d], kernel_size[d], output_size[d], samples[n, c, column[d]]))
        y[n, c], chosen[n, c] = (part[0, 0] for part in pool(maximum, x[n, c][None, None], axes, return_indices=True))
    return y, chosen


def unpool(x, indices, out_spatial):
    """y[index] = x, zero elsewhere; of equal indices in a plane the last one is kept."""
    y = np.zeros(x.shape[:2] + (int(np.prod(out_spatial)),))
    for at in np.ndindex(x.shape):
        y[at[0], at[1], indices[at]] = x[at]
    return y.reshape(x.shape[:2] + tuple(out_spatial))


def s3(x, kernel, rows_per_axis, return_indices=False):
    """S3 pooling in training: the stride-1 valid max map at the rows chosen for each axis."""
    axes = []
    for size, k, rows in zip(x.shape[2:], kernel, rows_per_axis, strict=True):
        windows = sliding(size, k, 1)
        axes.append([windows[row] for row in rows])
    return pool(maximum, x, axes, return_indices=return_indices)


def s3_inference(x, kernel):
    """S3 pooling in inference: the stride-1 valid max map, averaged with kernel k, stride k, padding k // 2 not counted; H // k outputs."""
    top = pool(maximum, x, sliding_axes(x.shape[2:], kernel, 1))
    axes = []
    for size, length, k in zip(x.shape[2:], top.shape[2:], kernel, strict=True):
        axes.append(sliding(length, k, k, k // 2, k // 2)[: size // k])
    return pool(avg, top, axes, divisors(axes, count_include_pad=False))


def finite_difference(function, point, direction, step=1e-6):
    """d/dt function(point + t direction) at t = 0: (f(+step) - f(-step)) / (2 step), for a function with a scalar value."""
    point, direction = np.asarray(point, np.float64), np.asarray(direction, np.float64)
    return (function(point + step * direction) - function(point - step * direction)) / (2 * step)
