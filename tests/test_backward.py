"""Backward: every example against directional finite differences of the float64 reference; then every dtype and order against float64."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import oracle
import pytest
from cases import CASES, FLOATS, GRADIENTS, Example, examples, whole
from test_forward import LAYOUTS, in_dtype

import numbapool
from numbapool import publish
from numbapool.testing import TOLERANCE


def gradients(e: Example, grad, x, args=None, **more) -> list:
    """The gradients of a call: of x, then of what else is differentiable."""
    result = e.backward(grad, x, *(e.args if args is None else args), **e.kwargs, **more)
    return list(result) if isinstance(result, tuple) else [result]


@pytest.mark.parametrize(("name", "ndim"), GRADIENTS)
def test_finite_differences(name, ndim, request):
    rng = np.random.default_rng(5)
    for e in examples(name, ndim, every=whole(request)):
        if name == "mode":  # which depends on elements that are equal
            e = replace(e, x=rng.permutation(e.x.size).reshape(e.x.shape) / 8)
        y = e.expected()[0]
        grad = rng.standard_normal(y.shape)
        got = gradients(e, grad, e.x)
        assert len(got) == 1 + len(e.learns), e.label
        for place, gradient in zip((None, *e.learns), got, strict=True):
            point = e.argument(place)
            assert gradient.shape == point.shape, e.label
            direction = rng.standard_normal(point.shape)

            def loss(p, place=place, e=e, grad=grad):
                return float((e.with_argument(place, p) * grad).sum())
            expected = oracle.finite_difference(loss, point, direction)
            np.testing.assert_allclose((gradient * direction).sum(), expected, 2e-5, 2e-6, err_msg=e.label)


@pytest.mark.parametrize("name", [n for n in CASES if publish.operations(n)[0].formula.family == "fold"])
def test_gradients_are_linear_in_what_windows_hand_out(name):
    """What windows over an element hand out is summed before the element sees it."""
    formula = publish.operations(name)[0].formula
    for f in (formula, *(formula.ignoring_nan({}) for _ in range(1) if hasattr(formula, "ignoring_nan"))):
        rng = np.random.default_rng(0)
        declared = [p for p in getattr(f, "parameters", ()) if p.kind in ("number", "positive", "array")]
        own = [1.5] * len(declared)
        elements = rng.uniform(0.5, 1.5, getattr(f, "elements", 1)).tolist()
        start, step = ((getattr(f, f"{n}_backward", None) or getattr(f, n)) for n in ("start", "step"))
        e = step(start(), *elements, 1.25, *own)
        count = len(f.terms(e, 1.25, 3.0, *own))
        a, b = rng.standard_normal((2, count))
        both = [np.asarray(f.spread(*elements, e, tuple(terms), 1.25, *own)) for terms in (a, b, 2 * a + b)]
        np.testing.assert_allclose(both[2], 2 * both[0] + both[1], 1e-12)


@pytest.mark.parametrize(("name", "ndim", "dtype"), FLOATS)
def test_other_floats(name, ndim, dtype):
    """The gradients of rounded inputs, computed in a smaller dtype, are those of float64 within its rounding."""
    kind = pytest.importorskip("ml_dtypes").bfloat16 if dtype == "bfloat16" else np.dtype(dtype)
    rng = np.random.default_rng(6)
    for e in (in_dtype(e, kind) for e in examples(name, ndim, few=True)):
        if "samples" in e.kwargs and name == "stochastic":
            continue  # a running sum may round to another element: test_forward counts them
        grad = rng.standard_normal(e.expected()[0].shape).astype(kind)
        wide = tuple(a.astype(np.float64) if getattr(a, "dtype", None) == kind else a for a in e.args)
        expected = gradients(e, grad.astype(np.float64), e.x.astype(np.float64), wide)
        for got, wanted in zip(gradients(e, grad, e.x), expected, strict=True):
            assert np.asarray(got).dtype == (kind if got.shape == e.x.shape else "float32")
            rtol, atol = TOLERANCE[dtype]
            np.testing.assert_allclose(np.asarray(got, np.float64), wanted, rtol, atol * max(1.0, np.abs(wanted).max()), err_msg=e.label)


@pytest.mark.parametrize("name", list(CASES))
def test_layouts_agree(name):
    for e in examples(name, 2, few=True)[:4]:
        grad = np.random.default_rng(7).standard_normal(e.expected()[0].shape)
        first = gradients(e, grad, e.x)
        for label, layout in LAYOUTS.items():
            for got, wanted in zip(gradients(e, layout(grad), layout(e.x)), first, strict=True):
                np.testing.assert_allclose(got, wanted, 1e-13, 1e-13, err_msg=f"{e.label} {label}")


@pytest.mark.parametrize("name", [n for n, c in CASES.items() if c.indexed or n == "fractional_max"])
def test_given_indices(name):
    """With the forward pass' indices the backward pass is the same as without, and no other index passes."""
    for e in examples(name, 2, few=True):
        if not e.indexed:
            continue
        y, indices = e.forward(e.x, *e.args, **e.kwargs, return_indices=True)
        found, given = gradients(e, y, e.x)[0], gradients(e, y, e.x, indices=indices)[0]
        np.testing.assert_array_equal(found, given)
        for wrong in (-1, int(np.prod(e.x.shape[2:]))):
            bad = indices.copy()
            bad[-1, -1, -1, -1] = wrong
            with pytest.raises(ValueError, match="indices must lie between"):
                gradients(e, y, e.x, indices=bad)


@pytest.mark.parametrize("form", ["", "adaptive_", "global_"])
def test_soft_with_constant_weights(form):
    """gradient="constant": the derivative of LIP in x, with the logits held at x / T."""
    x = np.random.default_rng(2).standard_normal((2, 3, 7, 9))
    window = {"": (3, 2, 1), "adaptive_": (4,), "global_": ()}[form]
    temperature = 0.7
    y = getattr(numbapool, f"{form}soft_pool2d")(x, *window, temperature=temperature)
    grad = np.random.default_rng(3).standard_normal(y.shape)
    got = getattr(numbapool, f"{form}soft_pool2d_backward")(grad, x, *window, temperature=temperature, gradient="constant")
    expected = getattr(numbapool, f"{form}lip_pool2d_backward")(grad, x, x / temperature, *window)[0]
    np.testing.assert_allclose(got, expected, 1e-12)
