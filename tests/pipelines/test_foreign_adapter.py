"""Adapters of other tools: right, or refused in one sentence."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.errors import UnsafeAdapter
from pipelines.models.adapter_files import CONFIG, WEIGHTS
from pipelines.models.foreign_adapter import take_in
from pipelines.models.foreign_config import read_foreign_adapter
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.params import LoraParams
from tests.support.tiny import make_tiny_adapter

ALL_LINEAR = {f"{part}_proj" for part in ("q", "k", "v", "o", "gate", "up", "down")}


@pytest.fixture(scope="module")
def made(
    tiny: Path, manifest: BaseModelManifest, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("made") / "adapter"
    make_tiny_adapter(tiny, manifest, folder)
    return folder


@pytest.fixture
def brought(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "brought"))


@pytest.fixture
def taken(
    tiny: Path, manifest: BaseModelManifest, tmp_path: Path
) -> Callable[[Path], LoraParams]:
    return lambda folder: take_in(
        read_foreign_adapter(folder), manifest, tiny, tmp_path / "taken"
    )


def change(folder: Path, **settings: Any) -> None:
    path = folder / CONFIG
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, **settings}), encoding="utf-8")


def change_tensors(folder: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / WEIGHTS)
    edit(tensors)
    save_file(tensors, folder / WEIGHTS)


def logits(base: Path, adapter: Path) -> Any:
    """What peft itself makes of a folder."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(str(base))
    with torch.no_grad():
        adapted = PeftModel.from_pretrained(model, str(adapter))
        return adapted(input_ids=torch.tensor([[5, 60, 70, 80]])).logits


def agrees(base: Path, brought: Path, taken: Path) -> bool:
    import torch

    return torch.allclose(logits(base, brought), logits(base, taken), atol=1e-5)


def test_an_adapter_as_peft_saved_it_is_taken_in_and_answers_the_same(
    brought: Path, tiny: Path, tmp_path: Path, taken: Callable[[Path], LoraParams]
) -> None:
    lora = taken(brought)
    assert (lora.r, lora.alpha) == (4, 8)
    assert sorted(path.name for path in (tmp_path / "taken").iterdir()) == [
        CONFIG,
        WEIGHTS,
    ]
    assert agrees(tiny, brought, tmp_path / "taken")


def test_rslora_is_written_as_the_plain_lora_that_computes_the_same(
    brought: Path, tiny: Path, tmp_path: Path, taken: Callable[[Path], LoraParams]
) -> None:
    change(brought, use_rslora=True)
    lora = taken(brought)
    # rsLoRA divides by the root of the rank, LoRA by the rank itself.
    assert lora.alpha == 16
    assert agrees(tiny, brought, tmp_path / "taken")
    (note,) = read_foreign_adapter(brought).provenance.notes
    assert note.startswith(
        "rsLoRA with alpha 8 was written as plain LoRA with alpha 16"
    )


def test_a_pattern_for_modules_is_never_run_since_the_weights_name_theirs(
    brought: Path, tiny: Path, tmp_path: Path, taken: Callable[[Path], LoraParams]
) -> None:
    # Unsloth writes patterns; this one would take a regular expression for ever.
    change(brought, target_modules="(a+)+$|.*_proj")
    modules = taken(brought).target_modules
    assert len(modules) == 14
    assert {name.rpartition(".")[2] for name in modules} == ALL_LINEAR


def test_short_names_stay_and_a_module_left_out_of_some_layers_is_named_in_full(
    brought: Path, tiny: Path, tmp_path: Path, taken: Callable[[Path], LoraParams]
) -> None:
    change(brought, target_modules=sorted(ALL_LINEAR))
    assert set(taken(brought).target_modules) == ALL_LINEAR

    def leave_out(tensors: dict[str, Any]) -> None:
        for name in [name for name in tensors if "layers.1.self_attn" in name]:
            del tensors[name]

    change_tensors(brought, leave_out)
    change(brought, layers_to_transform=[0])
    modules = taken(brought).target_modules
    assert "model.layers.0.self_attn.q_proj" in modules
    assert not [name for name in modules if "layers.1.self_attn" in name]
    change(brought, layers_to_transform=None, target_modules=list(modules))
    assert agrees(tiny, brought, tmp_path / "taken")


def test_what_other_tools_leave_beside_it_stays_there_and_links_are_followed(
    brought: Path, tmp_path: Path, taken: Callable[[Path], LoraParams]
) -> None:
    (brought / "training_args.bin").write_bytes(b"\x80\x02.")
    (brought / "checkpoint-10").mkdir()
    # As in the cache of Hugging Face's hub.
    moved = shutil.move(brought / WEIGHTS, tmp_path / "blob")
    (brought / WEIGHTS).symlink_to(moved)
    change(brought, auto_mapping={"base_model_class": "os"}, task_type=None)
    taken(brought)
    written = json.loads((tmp_path / "taken" / CONFIG).read_text(encoding="utf-8"))
    assert not (tmp_path / "taken" / WEIGHTS).is_symlink()
    assert (written["auto_mapping"], written["task_type"]) == (None, "CAUSAL_LM")


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"peft_type": "ADALORA"}, "peft_type is 'ADALORA'"),
        ({"peft_type": None}, "peft_type is 'None'"),
        ({"use_dora": True}, "use_dora is 'True'"),
        ({"bias": "all"}, "bias is 'all'"),
        ({"lora_bias": True}, "lora_bias is 'True'"),
        ({"modules_to_save": ["embed_tokens"]}, "modules_to_save is"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices is"),
        ({"rank_pattern": {"q_proj": 8}}, "rank_pattern is"),
        ({"alpha_pattern": {"q_proj": 8}}, "alpha_pattern is"),
        ({"layer_replication": [[0, 1]]}, "layer_replication is"),
        ({"loftq_config": {"bits": 4}}, "loftq_config is"),
        ({"init_lora_weights": "pissa"}, "changes the base's own weights"),
        ({"of_next_year": "x"}, "of_next_year is 'x'"),
        ({"r": True}, "no rank and no number"),
        ({"r": 0}, "no rank and no number"),
        ({"r": 10**9}, "no LoRA that Assay takes in"),
        ({"lora_alpha": "8"}, "no rank and no number"),
        ({"lora_alpha": float("nan")}, "no LoRA that Assay takes in"),
        ({"lora_alpha": -1}, "no LoRA that Assay takes in"),
        ({"use_rslora": "yes"}, "no rank and no number"),
    ],
)
def test_a_setting_that_makes_it_another_thing_is_refused(
    brought: Path, settings: dict[str, Any], sentence: str
) -> None:
    change(brought, **settings)
    with pytest.raises(UnsafeAdapter, match=re.escape(sentence)):
        read_foreign_adapter(brought)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "nonsense", "[" * 100_000, " " * 1_000_001],
    ids=["empty", "list", "no JSON", "deep", "large"],
)
def test_a_configuration_that_is_none_is_refused(brought: Path, text: str) -> None:
    (brought / CONFIG).write_text(text, encoding="utf-8")
    with pytest.raises(UnsafeAdapter):
        read_foreign_adapter(brought)


@pytest.mark.parametrize(
    ("missing", "left", "sentence"),
    [
        (CONFIG, None, "nothing says what the weights mean"),
        (WEIGHTS, None, f"holds no {WEIGHTS}"),
        (WEIGHTS, "adapter_model.bin", "is a pickle, which can run code"),
    ],
)
def test_a_missing_file_is_refused(
    brought: Path, missing: str, left: str | None, sentence: str
) -> None:
    (brought / missing).unlink()
    if left is not None:
        (brought / left).write_bytes(b"\x80\x02.")
    with pytest.raises(UnsafeAdapter, match=sentence):
        read_foreign_adapter(brought)
    with pytest.raises(UnsafeAdapter, match="There is no folder"):
        read_foreign_adapter(brought / "nowhere")


FIRST = "base_model.model.model.layers.0.self_attn.q_proj"


def _whole_embedding(tensors: dict[str, Any]) -> None:
    tensors["base_model.model.model.embed_tokens.weight"] = tensors[
        f"{FIRST}.lora_A.weight"
    ].clone()


def _other_layer(tensors: dict[str, Any]) -> None:
    for half in "AB":
        tensors[f"base_model.model.model.layers.9.mlp.up_proj.lora_{half}.weight"] = (
            tensors[f"{FIRST}.lora_{half}.weight"].clone()
        )


def _output_layer(tensors: dict[str, Any]) -> None:
    for half in "AB":
        tensors[f"base_model.model.lm_head.lora_{half}.weight"] = tensors[
            f"{FIRST}.lora_{half}.weight"
        ].clone()


def _wrong_shape(tensors: dict[str, Any]) -> None:
    name = f"{FIRST}.lora_A.weight"
    tensors[name] = tensors[name][:, :-1].contiguous()


def _half(tensors: dict[str, Any]) -> None:
    del tensors[f"{FIRST}.lora_A.weight"]


def _nothing(tensors: dict[str, Any]) -> None:
    tensors.clear()


def _nan(tensors: dict[str, Any]) -> None:
    tensors[f"{FIRST}.lora_A.weight"][0, 0] = float("nan")


def _other_rank(tensors: dict[str, Any]) -> None:
    name = f"{FIRST}.lora_A.weight"
    tensors[name] = tensors[name][:2].contiguous()


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (_whole_embedding, "no matrix of a plain LoRA"),
        (_other_layer, "has no such linear layer"),
        (_output_layer, "the output layer"),
        (_wrong_shape, "takes 32 numbers to"),
        (_half, "does not hold a lora_A and a lora_B"),
        (_nothing, "does not hold a lora_A and a lora_B"),
        (_nan, "NaN or Inf"),
        (_other_rank, "no LoRA matrix of rank 4"),
    ],
)
def test_weights_that_are_no_plain_lora_of_this_base_are_refused(
    brought: Path,
    edit: Callable[[dict[str, Any]], None],
    sentence: str,
    taken: Callable[[Path], LoraParams],
) -> None:
    change_tensors(brought, edit)
    with pytest.raises(UnsafeAdapter, match=sentence):
        taken(brought)


def test_weights_that_are_cut_off_are_refused(
    brought: Path, taken: Callable[[Path], LoraParams]
) -> None:
    whole = (brought / WEIGHTS).read_bytes()
    (brought / WEIGHTS).write_bytes(whole[:-10])
    with pytest.raises(UnsafeAdapter, match="no whole safetensors file"):
        taken(brought)
