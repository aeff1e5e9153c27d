"""An adapter on rounded weights: each engine computes the numbers that were scored."""

import random
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from core.errors import ServingError
from pipelines.engines import OPENVINO, TRANSFORMERS, Engine, GenerationRequest
from pipelines.engines.openvino.graph import compile_recorded
from pipelines.engines.openvino.int8_weights import give_int8
from pipelines.engines.openvino.library import load_library
from pipelines.engines.openvino.trace import record
from pipelines.engines.slot_model import Trial
from pipelines.models.language_model import (
    LanguageModel,
    load_language_model,
)
from pipelines.models.rounded import to_int8
from pipelines.values.precision import Precision
from serving.load import load_engine
from tests.support.in_int8 import score_in_int8
from tests.support.listening import Listener
from tests.support.running_engine import Served
from tests.support.texts_alone import NEW_TOKENS, texts_alone
from tests.support.tiny import CHAT_TEMPLATE, pack

LAYERS, LINEAR = 2, 7
"""Of the tiny base, whose head is one linear layer more."""


def load(served: Served, precision: Precision, adapter: Path | None) -> LanguageModel:
    return load_language_model(
        served.base, served.base_folder, CHAT_TEMPLATE, precision, adapter
    )


def prompts() -> list[tuple[int, ...]]:
    dice = random.Random(8)
    lengths = (1, 4, 17, 33, 60, 2, 90, 12)
    return [tuple(dice.choices(range(3, 250), k=length)) for length in lengths]


def served_answers(
    engine: Engine, model: str, asked: Sequence[tuple[int, ...]]
) -> list[str]:
    requests = [GenerationRequest(model, prompt, NEW_TOKENS) for prompt in asked]
    listeners = [Listener(engine, request) for request in requests]
    return [listener.rest()[0] for listener in listeners]


@pytest.fixture(scope="module")
def in_int8(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Served:
    """The same adapter, as a version whose scores hold for int8."""
    package = tmp_path_factory.mktemp("int8") / "package"
    shutil.copytree(served.package, package)
    score_in_int8(package, served.base_folder)
    pack(package)
    return replace(served, package=package)


@pytest.mark.ci
@pytest.mark.parametrize("kind", [TRANSFORMERS, OPENVINO])
def test_an_engine_answers_what_was_scored_in_int8(in_int8: Served, kind: str) -> None:
    asked = prompts()
    adapters = {"tuned": in_int8.package / "adapter", "tiny": None}
    config = replace(in_int8.config, default_max_tokens=None, engine=kind)
    engine = load_engine(config)
    try:
        for model, adapter in adapters.items():
            expected = texts_alone(load(in_int8, "int8", adapter), asked)
            in_float32 = texts_alone(load(in_int8, "float32", adapter), asked)
            # Rounding changes no answer of the base here, and some of the adapter's.
            assert (expected == in_float32) == (adapter is None)
            assert served_answers(engine, model, asked) == expected
            spec = engine.specs[model]
            assert (spec.engine, spec.precision) == (kind, "int8")
    finally:
        engine.close()


def test_a_version_is_served_in_the_precision_of_its_scores_alone(
    served: Served, in_int8: Served
) -> None:
    others: tuple[tuple[Served, Precision], ...]
    others = ((served, "int8"), (in_int8, "float32"))
    for version, other in others:
        config = replace(version.config, precision=other, default_max_tokens=None)
        with pytest.raises(ServingError, match=f"precision is {other}, not "):
            load_engine(config)


@pytest.mark.ci
def test_openvino_computes_every_rounded_layer_from_int8_and_the_adapter_from_float32(
    in_int8: Served,
) -> None:
    language = load(in_int8, "int8", in_int8.package / "adapter")
    _, shapes = Trial.of(language, short=2, long=3).compute_alone(language)
    recorded = record(language.model, shapes)
    compiled = compile_recorded(recorded, threads=1, is_int8=True)
    kinds = [port_kinds(operation) for operation in products(compiled)]
    assert sum("i8" in each for each in kinds) == LAYERS * LINEAR + 1
    # Two small products an adapted layer, and they stay as they were trained.
    assert sum("i8" not in each for each in kinds) >= 2 * LAYERS * LINEAR


@pytest.mark.ci
@pytest.mark.parametrize("is_turned", [False, True])
def test_a_product_computes_the_same_from_int8_and_other_weights_stay(
    *, is_turned: bool
) -> None:
    openvino = load_library()
    chance = torch.Generator().manual_seed(2)
    plain = torch.randn(6, 4, generator=chance)
    rounded = to_int8(plain).multiplied()
    asked = torch.randn(3, 4, generator=chance).numpy()
    for weights, kinds in ((plain, {"f32"}), (rounded, {"f32", "i8"})):
        ops = openvino.opset13
        given = weights.T.contiguous() if is_turned else weights
        put_in = ops.parameter([3, 4], np.float32)
        product = ops.matmul(
            put_in,
            ops.constant(given.numpy()),
            transpose_a=False,
            transpose_b=not is_turned,
        )
        model = openvino.Model([ops.result(product)], [put_in])
        give_int8(openvino, model)
        constants = [op for op in model.get_ops() if op.get_type_name() == "Constant"]
        found = {op.get_element_type().get_type_name() for op in constants}
        assert found <= kinds
        assert ("i8" in found) == ("i8" in kinds)
        how = {
            "INFERENCE_PRECISION_HINT": "f32",
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
        }
        (computed,) = openvino.compile_model(model, "CPU", how)(asked).values()
        assert computed == pytest.approx(asked @ weights.numpy().T, abs=1e-5)


def products(compiled: object) -> list[object]:
    graph = compiled.get_runtime_model()  # type: ignore[attr-defined]
    return [
        operation
        for operation in graph.get_ops()
        if operation.get_rt_info()["layerType"] == "FullyConnected"
    ]


def port_kinds(operation: object) -> set[str]:
    """The types of what an operation reads."""
    ports = operation.inputs()  # type: ignore[attr-defined]
    return {port.get_element_type().get_type_name() for port in ports}
