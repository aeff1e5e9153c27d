"""A recorded forward as a compiled model of OpenVINO, whose attention reads blocks of a cache.

graph of torch ─▶ OpenVINO ─▶ past keys and values as its state ─▶ paged attention ─▶ compiled
"""

from collections.abc import Collection, Sequence
from typing import Any

import torch

from pipelines.engines import NotTaken
from pipelines.engines.openvino.int8_weights import give_int8
from pipelines.engines.openvino.library import load_library
from pipelines.engines.openvino.trace import INPUTS, Recorded
from pipelines.engines.slots import HeadShape

# What a compiled model may ask for beside the blocks themselves.
_PAGED_INPUTS = {
    "input_ids",
    "position_ids",
    "wanted",
    "past_lens",
    "subsequence_begins",
    "block_indices",
    "block_indices_begins",
    "max_context_len",
}
KEYS, VALUES = "key_cache.", "value_cache."
_PER_LAYER = (KEYS, VALUES)


def compile_recorded(recorded: Recorded, threads: int, *, is_int8: bool = False) -> Any:
    """Compile a recorded forward for this processor; `NotTaken` where OpenVINO cannot.

    Everything is computed and kept in float32: its own default halves keys and values. Weights
    that were rounded stay int8 where `is_int8` says that there are some.
    """
    openvino = load_library()
    try:
        model = _convert(openvino, recorded)
        _keep_past_as_state(openvino, model, recorded.shapes)
        _page_attention(model)
        _write_numbers(openvino, model)
        if is_int8:
            give_int8(openvino, model)
        compiled = openvino.Core().compile_model(
            model,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": "f32",
                "KV_CACHE_PRECISION": "f32",
                "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_NUM_THREADS": threads,
                "ENABLE_CPU_PINNING": False,
            },
        )
    # Its errors are of many kinds, not all of which it names.
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        raise NotTaken(f"its graph does not compile ({lines[-1][:200]})") from error
    _check_inputs(compiled, {each.name for each in recorded.adapters})
    return compiled


def _convert(openvino: Any, recorded: Recorded) -> Any:
    of_adapters = [each.name for each in recorded.adapters]
    names = [*INPUTS, *of_adapters, *_past_names("past", recorded.shapes)]
    described = _describe_inputs(openvino, recorded)
    model = openvino.convert_model(recorded.graph, input=described)
    for name, port in zip(names, model.inputs, strict=True):
        port.get_tensor().set_names({name})
        port.get_node().set_friendly_name(name)
    outputs = ["logits", *_past_names("present", recorded.shapes)]
    for name, port in zip(outputs, model.outputs, strict=True):
        port.get_tensor().set_names({name})
    return model


def _describe_inputs(openvino: Any, recorded: Recorded) -> list[Any]:
    """Shape and type of each input, -1 for what a request decides."""
    shape, kinds = openvino.PartialShape, openvino.Type
    described = [
        (shape([-1, -1]), kinds.i64),
        (shape([-1, -1]), kinds.i64),
        (shape([-1, 1, -1, -1]), kinds.f32),
        (shape([-1]), kinds.i64),
        (shape([-1]), kinds.i64),
    ]
    for each in recorded.adapters:
        is_choice = each.example.dtype == torch.bool
        kind = kinds.boolean if is_choice else kinds.f32
        described.append((shape(list(each.shape)), kind))
    for pair in recorded.shapes:
        for head in pair:
            states = shape([-1, head.heads, -1, head.size])
            described.append((states, kinds.f32))
    return described


def _past_names(kind: str, shapes: Sequence[tuple[HeadShape, HeadShape]]) -> list[str]:
    names = []
    for layer in range(len(shapes)):
        names += [f"{kind}.{layer}.keys", f"{kind}.{layer}.values"]
    return names


def _keep_past_as_state(
    openvino: Any, model: Any, shapes: Sequence[tuple[HeadShape, HeadShape]]
) -> None:
    """Have the model keep its past by itself, which is how paged attention recognises it."""
    from openvino._offline_transformations import apply_make_stateful_transformation

    past = _past_names("past", shapes)
    present = _past_names("present", shapes)
    apply_make_stateful_transformation(model, dict(zip(past, present, strict=True)))
    ops = openvino.opset13
    ids = model.input("input_ids").get_node()
    sizes = ops.shape_of(ids, output_type="i64")
    rows = ops.gather(sizes, ops.constant([0]), ops.constant(0))
    # At first nothing is kept: no token of each row.
    for node in model.get_ops():
        if node.get_type_name() != "ReadValue":
            continue
        _, heads, _, size = node.get_output_partial_shape(0)
        zero = ops.constant([0])
        dimensions = [
            rows,
            ops.constant([heads.get_length()]),
            zero,
            ops.constant([size.get_length()]),
        ]
        shape = ops.concat(dimensions, axis=0)
        nothing = ops.constant(0.0, dtype=node.get_output_element_type(0))
        node.set_arguments([ops.broadcast(nothing, shape)])
    model.validate_nodes_and_infer_types()


def _page_attention(model: Any) -> None:
    from openvino._offline_transformations import paged_attention_transformation

    paged_attention_transformation(model)


def _write_numbers(openvino: Any, model: Any) -> None:
    """Write a number that is converted to float32 as what it becomes.

    Rotary positions hold such a -1. OpenVINO computes them in one operation instead of nine, but
    recognises them by the number itself.
    """
    for node in model.get_ordered_ops():
        if node.get_type_name() != "Convert":
            continue
        source = node.input_value(0).get_node()
        is_number = source.get_type_name() == "Constant" and source.data.size == 1
        if is_number and node.get_output_element_type(0) == openvino.Type.f32:
            number = openvino.opset13.constant(source.data.astype("float32"))
            node.output(0).replace(number.output(0))


def _check_inputs(compiled: Any, of_adapters: Collection[str]) -> None:
    """Return only if every input is known: one that stays empty would change answers."""
    for port in compiled.inputs:
        name = port.get_any_name()
        is_known = name in _PAGED_INPUTS or name in of_adapters
        if not is_known and not name.startswith(_PER_LAYER):
            raise NotTaken(f"its graph has the unknown input {name}")
