"""LiteRT (TensorFlow Lite) with XNNPACK as a peer: a model of one operator, written here byte for byte by LiteRT's own schema."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from .more_peers import as_stored, as_stored_shape, of_window, plain_forward
from .problem import Problem
from .rows import LAST

OPERATORS = {"max": schema.BuiltinOperator.MAX_POOL_2D, "avg": schema.BuiltinOperator.AVERAGE_POOL_2D}


def tensor(name: str, shape: tuple[int, ...], buffer: int) -> Any:
    """A float32 tensor."""
    result = schema.TensorT()
    result.name, result.shape, result.type, result.buffer = name, list(shape), schema.TensorType.FLOAT32, buffer
    return result


def operator_of(kernel: int, stride: int, same: bool) -> Any:
    """The one operator: tensor 0 to tensor 1."""
    options = schema.Pool2DOptionsT()
    options.padding = schema.Padding.SAME if same else schema.Padding.VALID
    options.filterHeight = options.filterWidth = kernel
    options.strideH = options.strideW = stride
    result = schema.OperatorT()
    result.opcodeIndex, result.inputs, result.outputs = 0, [0], [1]
    result.builtinOptionsType, result.builtinOptions = schema.BuiltinOptions.Pool2DOptions, options
    return result


def model(operator: int, node: Any, source: tuple[int, ...], target: tuple[int, ...]) -> bytes:
    """A model file."""
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = operator
    code.version = 1
    graph = schema.SubGraphT()
    graph.tensors, graph.inputs, graph.outputs, graph.operators = [tensor("x", source, 1), tensor("y", target, 2)], [0], [1], [node]
    whole = schema.ModelT()
    whole.version, whole.operatorCodes, whole.subgraphs, whole.buffers = 3, [code], [graph], [schema.BufferT() for _ in range(3)]
    builder = flatbuffers.Builder(1024)
    builder.Finish(whole.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def contender(problem: Problem) -> Callable[[], Any] | None:
    """Forward max and average pooling of channels-last float32 in 2d; its average leaves padding out."""
    row = problem.row
    if not plain_forward(problem, *OPERATORS) or row.order != LAST or row.ndim != 2 or row.dtype != "float32":
        return None
    k, s, p = of_window(problem)
    if p and (s > 1 or row.pool == "avg" or 2 * p != k - 1):
        return None
    x = np.ascontiguousarray(as_stored(problem))
    made = model(OPERATORS[row.pool], operator_of(k, s, p > 0), x.shape, as_stored_shape(problem))
    interpreter = Interpreter(model_content=made, num_threads=row.threads)
    interpreter.allocate_tensors()
    source, target = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    interpreter.set_tensor(source, x)

    result = interpreter.tensor(target)

    def call() -> Callable[[], np.ndarray]:
        interpreter.invoke()  # from its own memory into its own memory: no copy is timed
        return result
    return call
