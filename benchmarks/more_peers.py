"""JAX, TensorFlow, ONNX Runtime, OpenCV and scikit-image as peers: forward passes, where the library has the pooling itself.

Each function takes a problem and returns its call, or None where the library has no such pooling.
"""
from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from .problem import Problem
from .rows import LAST

Call = Callable[[], Any]


def plain_forward(problem: Problem, *poolings: str) -> bool:
    """Whether the row is the forward pass of one of these poolings over sliding windows."""
    return problem.row.pool in poolings and problem.row.direction == "forward" and not problem.window.prefix


def of_window(problem: Problem) -> tuple[int, int, int]:
    """kernel_size, stride and padding, the same along every axis."""
    return tuple(problem.window.arguments[name] for name in ("kernel_size", "stride", "padding"))


def as_stored(problem: Problem) -> np.ndarray:
    """x with its axes in memory order: (N, ..., C) for channels-last rows."""
    return np.moveaxis(problem.x, 1, -1) if problem.row.order == LAST else problem.x


def spatial(problem: Problem, value: Any, rest: Any) -> tuple:
    """One value for each spatial axis and another for batch and channels, in the order of `as_stored`."""
    middle = (value,) * problem.row.ndim
    return (rest, *middle, rest) if problem.row.order == LAST else (rest, rest, *middle)


def jax(problem: Problem) -> Call | None:
    """jax.lax.reduce_window, jitted."""
    if not plain_forward(problem, "max", "avg") or problem.row.dtype == "float64":  # which JAX has only by a global switch
        return None
    import jax
    k, s, p = of_window(problem)
    maximum, count = problem.row.pool == "max", k ** problem.row.ndim
    window = spatial(problem, k, 1), spatial(problem, s, 1), spatial(problem, (p, p), (0, 0))

    @jax.jit
    def pool(x: Any) -> Any:
        if maximum:
            return jax.lax.reduce_window(x, -np.inf, jax.lax.max, *window)
        return jax.lax.reduce_window(x, 0.0, jax.lax.add, *window) / count
    x = jax.device_put(as_stored(problem))
    return lambda: pool(x).block_until_ready()


def tensorflow(problem: Problem) -> Call | None:
    """tf.nn.max_pool and avg_pool, which want channels last on the CPU, and no padding but "same"."""
    if not plain_forward(problem, "max", "avg") or problem.row.order != LAST:
        return None
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # else it prints a page about its build
    import tensorflow as tf
    k, s, p = of_window(problem)
    if p and (s > 1 or problem.row.pool == "avg" or 2 * p != k - 1):
        return None
    x = tf.convert_to_tensor(as_stored(problem))
    function = tf.function(tf.nn.max_pool if problem.row.pool == "max" else tf.nn.avg_pool, autograph=False, jit_compile=False)
    return lambda: function(x, ksize=k, strides=s, padding="SAME" if p else "VALID")


ONNX_DTYPES = {"float16": "FLOAT16", "float32": "FLOAT", "float64": "DOUBLE"}
ONNX = {"max": ("MaxPool", {}), "avg": ("AveragePool", {"count_include_pad": 1}), "lp/2": ("LpPool", {"p": 2}), "lp/3": ("LpPool", {"p": 3})}


def onnxruntime(problem: Problem) -> Call | None:
    """A model of one node."""
    row = problem.row
    if row.pool not in ONNX or row.dtype not in ONNX_DTYPES or row.direction != "forward":
        return None
    if row.order == LAST or problem.window.prefix == "adaptive_":
        return None
    import onnxruntime
    from onnx import TensorProto, helper
    operator, extra = ONNX[row.pool]
    if problem.window.prefix:
        node = helper.make_node(f"Global{operator}", ["x"], ["y"], **{k: v for k, v in extra.items() if k == "p"})
    else:
        k, s, p = ([v] * row.ndim for v in of_window(problem))
        node = helper.make_node(operator, ["x"], ["y"], kernel_shape=k, strides=s, pads=p + p, **extra)
    kind = getattr(TensorProto, ONNX_DTYPES[row.dtype])
    graph = helper.make_graph([node], "pooling", [helper.make_tensor_value_info("x", kind, problem.x.shape)],
                              [helper.make_tensor_value_info("y", kind, problem.y.shape)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = row.threads, 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feed = {"x": problem.x}
    return lambda: session.run(None, feed)[0]


def opencv(problem: Problem) -> Call | None:
    """Image by image: dilation is a maximum and a box filter a mean of stride 1; shrinking by areas is an average without overlap."""
    if not plain_forward(problem, "max", "avg") or problem.row.ndim != 2 or problem.row.dtype not in ("float32", "float64"):
        return None
    import cv2
    k, s, p = of_window(problem)
    if s == 1 and 2 * p == k - 1:
        box = np.ones((k, k), np.uint8)
        one = {"max": lambda image: cv2.dilate(image, box), "avg": lambda image: cv2.boxFilter(image, -1, (k, k), borderType=cv2.BORDER_CONSTANT)}
    elif s == k and p == 0 and problem.row.pool == "avg" and not any(n % k for n in problem.x.shape[2:]):
        one = {"avg": lambda image: cv2.resize(image, None, fx=1 / k, fy=1 / k, interpolation=cv2.INTER_AREA)}
    else:
        return None
    cv2.setNumThreads(problem.row.threads)
    images, shape, pool = as_stored(problem), as_stored_shape(problem), one[problem.row.pool]
    if problem.row.order != LAST:
        images = images.reshape(-1, *images.shape[2:])
    return lambda: np.stack([pool(image) for image in images]).reshape(shape)


def as_stored_shape(problem: Problem) -> tuple[int, ...]:
    """y's shape in memory order."""
    n, c, *rest = problem.y.shape
    return (n, *rest, c) if problem.row.order == LAST else (n, c, *rest)


def scikit_image(problem: Problem) -> Call | None:
    """block_reduce, which has no overlap, no padding and one thread."""
    if not plain_forward(problem, "max", "avg") or problem.row.threads > 1:
        return None
    k, s, p = of_window(problem)
    if k != s or p or any(n % k for n in problem.x.shape[2:]):
        return None
    from skimage.measure import block_reduce
    x, blocks, function = as_stored(problem), spatial(problem, k, 1), np.max if problem.row.pool == "max" else np.mean
    return lambda: block_reduce(x, blocks, function)
