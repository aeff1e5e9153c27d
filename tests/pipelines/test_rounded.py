"""Rounded weights are the nearest that int8 holds, and nobody loses a bit of them afterwards."""

import shutil
from pathlib import Path

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.pytorch_utils import Conv1D

from core.errors import UnusableBaseModel
from pipelines.models.language_model import LanguageModel, load_language_model
from pipelines.models.rounded import find_int8, round_linear_layers, to_int8
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.precision import PRECISIONS, arithmetic_of, find_precision
from tests.support.tiny import CHAT_TEMPLATE, make_tiny_adapter


def noise(*shape: int) -> torch.Tensor:
    chance = torch.Generator().manual_seed(5)
    return torch.randn(*shape, generator=chance)


def round_trip(weights: torch.Tensor) -> torch.Tensor:
    found = find_int8(weights)
    assert found is not None
    return found.multiplied()


def load(folder: Path, base: BaseModelManifest, precision: str) -> LanguageModel:
    named = find_precision(precision)
    assert named is not None
    return load_language_model(base, folder, CHAT_TEMPLATE, named)


def test_each_number_is_the_nearest_of_its_channel() -> None:
    weights = noise(40, 300) * torch.logspace(-6, 6, 40)[:, None]
    rounded = to_int8(weights)
    steps = weights.abs().amax(dim=1, keepdim=True) / 127
    assert rounded.numbers.dtype == torch.int8
    assert rounded.scales.shape == (40, 1)
    torch.testing.assert_close(rounded.scales, steps, rtol=2**-16, atol=0)
    # The largest of each channel is its end, and no other is off by more than half a step.
    assert (rounded.numbers.abs().amax(dim=1) == 127).all()
    error = (rounded.multiplied() - weights).abs() / steps
    assert error.max() <= 0.51


def test_int8_holds_rounded_weights_without_loss_and_other_weights_not_at_all() -> None:
    weights = noise(64, 500) * torch.logspace(-20, 20, 64)[:, None]
    rounded = to_int8(weights).multiplied()
    found = find_int8(rounded)
    assert found is not None
    assert torch.equal(found.numbers, to_int8(weights).numbers)
    # In double precision the product is the same: nothing was rounded in it.
    exact = found.numbers.double() * found.scales.double()
    assert torch.equal(exact, rounded.double())
    assert find_int8(weights) is None
    # More channels than are looked at together.
    many = found.multiplied().repeat(70, 1)[:4400]
    assert torch.equal(round_trip(many), many)
    rounded[3, 7] = torch.nextafter(rounded[3, 7], torch.tensor(1e9))
    assert find_int8(rounded) is None


def test_a_channel_without_a_largest_number_is_zero_and_divides_nothing() -> None:
    weights = noise(4, 8)
    weights[1] = 0
    weights[2] = 1e-40
    rounded = to_int8(weights).multiplied()
    assert rounded.isfinite().all()
    assert rounded[1].eq(0).all()
    assert rounded[2].eq(0).all()
    assert rounded[0].ne(0).any()
    assert find_int8(rounded) is not None


def test_a_layer_of_gpt2_is_rounded_by_its_outputs_though_it_is_turned() -> None:
    config = GPT2Config(vocab_size=20, n_positions=8, n_embd=8, n_layer=1, n_head=2)
    model = GPT2LMHeadModel(config)
    layer = model.get_submodule("transformer.h.0.attn.c_attn")
    assert isinstance(layer, Conv1D)
    with torch.no_grad():
        layer.weight.mul_(torch.logspace(-3, 3, layer.weight.shape[1]))
    before = layer.weight.detach().clone()
    positions = model.transformer.wpe.weight.detach().clone()
    round_linear_layers(model)
    assert find_int8(layer.weight.T) is not None
    assert torch.equal(layer.weight, to_int8(before.T).multiplied().T)
    assert torch.equal(model.transformer.wpe.weight, positions)


def test_a_base_is_rounded_once_with_its_head_and_the_embeddings_tied_to_it(
    tiny: Path, manifest: BaseModelManifest
) -> None:
    plain, rounded = (load(tiny, manifest, name) for name in ("float32", "int8"))
    assert (rounded.precision, rounded.arithmetic) == ("int8", "float32")
    head = rounded.model.get_output_embeddings().weight
    is_tied = plain.model.config.tie_word_embeddings
    embeddings = rounded.model.get_input_embeddings().weight
    assert (embeddings is head) == is_tied
    for name, weight in rounded.model.named_parameters():
        own = plain.model.get_parameter(name)
        assert weight.dtype == torch.float32
        if weight is head or "proj" in name:
            assert not torch.equal(weight, own)
            assert torch.equal(weight, to_int8(own.detach()).multiplied())
        elif weight is not embeddings:
            assert torch.equal(weight, own)


def test_the_file_of_a_base_stays_as_it_is(
    tiny: Path, manifest: BaseModelManifest
) -> None:
    before = (tiny / "model.safetensors").read_bytes()
    load(tiny, manifest, "int8")
    assert (tiny / "model.safetensors").read_bytes() == before


def test_an_adapter_keeps_its_own_numbers(
    tiny: Path, manifest: BaseModelManifest, tmp_path: Path
) -> None:
    make_tiny_adapter(tiny, manifest, tmp_path / "adapter")
    language = load_language_model(
        manifest, tiny, CHAT_TEMPLATE, "int8", tmp_path / "adapter"
    )
    weights = dict(language.model.named_parameters())
    adapted = {name for name in weights if "lora_" in name}
    layers = {name for name in weights if "base_layer" in name}
    assert adapted
    assert layers
    assert all(find_int8(weights[name]) is None for name in adapted)
    assert all(find_int8(weights[name]) is not None for name in layers)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused_by_name(
    tiny: Path, manifest: BaseModelManifest, tmp_path: Path, number: float
) -> None:
    broken = load(tiny, manifest, "float32").model
    with torch.no_grad():
        broken.get_parameter("model.layers.1.mlp.up_proj.weight")[0, 0] = number
    folder = tmp_path / "broken"
    shutil.copytree(tiny, folder)
    broken.save_pretrained(folder)
    with pytest.raises(UnusableBaseModel, match=r"layers.1.mlp.up_proj holds weights"):
        load(folder, manifest, "int8")


def test_a_precision_names_what_is_computed_with() -> None:
    assert {name: arithmetic_of(name) for name in PRECISIONS} == {
        "float32": "float32",
        "bfloat16": "bfloat16",
        "int8": "float32",
    }
    assert find_precision("int4") is None
