"""Rounded weights in a graph of OpenVINO, given as the int8 numbers that they are.

    float32 constant ──▶ product        becomes        int8, scales ──▶ product

Its processor plug-in keeps such weights as int8 in memory and multiplies by the scale inside the
product. No names are matched: where int8 holds each number of a constant without loss, it is one
that was rounded. An adapter's own weights are not.
"""

from typing import Any

import torch

from pipelines.models.rounded import find_int8


def give_int8(openvino: Any, model: Any) -> None:
    """Have each product read int8 whose weights were rounded."""
    # First those that exist: new nodes join the graph below.
    for node in list(model.get_ordered_ops()):
        if node.get_type_name() != "MatMul" or not _has_weights(node):
            continue
        weights = _int8_constant(openvino, node)
        if weights is not None:
            product = openvino.opset13.matmul(
                node.input_value(0), weights, _turns_input(node), True
            )
            product.set_friendly_name(node.get_friendly_name())
            node.output(0).replace(product.output(0))


def _has_weights(node: Any) -> bool:
    source = node.input_value(1)
    is_matrix = len(source.get_partial_shape()) == 2
    return is_matrix and source.get_node().get_type_name() == "Constant"


def _turns_input(node: Any) -> bool:
    turns: bool = node.get_attributes()["transpose_a"]
    return turns


def _int8_constant(openvino: Any, node: Any) -> Any:
    """The weights of a product, of shape (channels, inputs); None where they were not rounded."""
    data = node.input_value(1).get_node().data
    # A copy for now: torch does not read what may not be written.
    weights = torch.from_numpy(data.copy())
    # GPT-2 keeps its matrices turned.
    if not node.get_attributes()["transpose_b"]:
        weights = weights.T
    found = find_int8(weights)
    if found is None:
        return None
    ops = openvino.opset13
    numbers = ops.constant(found.numbers.contiguous().numpy())
    scales = ops.constant(found.scales.contiguous().numpy())
    return ops.multiply(ops.convert(numbers, "f32"), scales)
