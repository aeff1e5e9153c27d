"""Whatever is wrong with an adapter's folder is refused before a byte of it is loaded."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file, save_file

from core.errors import DamagedFile, UnsafeAdapter
from pipelines.models.adapter_files import CONFIG, WEIGHTS, check_adapter
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.evidence import Adapter
from tests.support.tiny import (
    make_tiny_adapter,
    make_tiny_base,
    record_of,
    tiny_manifest,
)


class Trained(NamedTuple):
    """A tiny base's manifest, and an adapter on it."""

    base: BaseModelManifest
    folder: Path
    adapter: Adapter


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    root = tmp_path_factory.mktemp("tiny")
    base_folder = make_tiny_base(root / "base")
    base = tiny_manifest(base_folder, root / "home")
    return Trained(
        base, root / "adapter", make_tiny_adapter(base_folder, base, root / "adapter")
    )


@pytest.fixture
def trained(original: Trained, tmp_path: Path) -> Trained:
    """A copy that a test may damage."""
    return original._replace(
        folder=Path(shutil.copytree(original.folder, tmp_path / "adapter"))
    )


def rerecord(trained: Trained) -> Adapter:
    """The record of the folder as it is now: a forger who also mends the digests."""
    lora = trained.adapter.lora
    assert lora is not None
    return record_of(trained.folder, trained.base, lora)


def change_config(trained: Trained, **settings: Any) -> Adapter:
    path = trained.folder / CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    return rerecord(trained)


def change_tensors(
    trained: Trained, change: Callable[[dict[str, torch.Tensor]], None]
) -> Adapter:
    path = trained.folder / WEIGHTS
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    return rerecord(trained)


def first(tensors: dict[str, torch.Tensor]) -> str:
    return min(tensors)


def test_an_adapter_as_peft_saves_it_is_accepted(trained: Trained) -> None:
    check_adapter(trained.folder, trained.adapter, trained.base)


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), float("-inf")])
def test_one_number_that_is_not_finite_is_refused(
    trained: Trained, poison: float
) -> None:
    def place(tensors: dict[str, torch.Tensor]) -> None:
        tensors[first(tensors)][0, 0] = poison

    forged = change_tensors(trained, place)
    with pytest.raises(UnsafeAdapter, match="NaN or Inf"):
        check_adapter(trained.folder, forged, trained.base)


def test_infinities_that_cancel_are_still_found(trained: Trained) -> None:
    def place(tensors: dict[str, torch.Tensor]) -> None:
        tensors[first(tensors)][0, 0], tensors[first(tensors)][0, 1] = (
            float("inf"),
            float("-inf"),
        )

    forged = change_tensors(trained, place)
    with pytest.raises(UnsafeAdapter, match="NaN or Inf"):
        check_adapter(trained.folder, forged, trained.base)


def test_an_adapter_for_another_base_is_refused_with_both_names(
    trained: Trained,
) -> None:
    other = trained.base.model_copy(update={"id": "other", "digest": "0" * 64})
    with pytest.raises(
        UnsafeAdapter, match=r"trained on tiny .*, not on other 000000000000"
    ):
        check_adapter(trained.folder, trained.adapter, other)


def test_an_adapter_trained_under_another_chat_template_is_refused(
    trained: Trained,
) -> None:
    other = trained.base.model_copy(update={"chat_template_sha256": "0" * 64})
    with pytest.raises(UnsafeAdapter, match="another chat template"):
        check_adapter(trained.folder, trained.adapter, other)


@pytest.mark.parametrize("rank", [0, -1, 4096, 10**12, 8, True, "4", None])
def test_a_rank_that_is_absurd_or_not_the_recorded_one_is_refused(
    trained: Trained, rank: object
) -> None:
    forged = change_config(trained, r=rank)
    with pytest.raises(UnsafeAdapter, match="r"):
        check_adapter(trained.folder, forged, trained.base)


@pytest.mark.parametrize("alpha", [0, -8, 16, 1e400])
def test_an_alpha_that_would_scale_the_answer_otherwise_is_refused(
    trained: Trained, alpha: float
) -> None:
    forged = change_config(trained, lora_alpha=alpha)
    with pytest.raises(UnsafeAdapter, match="alpha"):
        check_adapter(trained.folder, forged, trained.base)


@pytest.mark.parametrize(
    "settings",
    [
        {"auto_mapping": {"base_model_class": "Evil", "parent_library": "evil.module"}},
        {"auto_map": {"AutoModel": "modeling_evil.Evil"}},
        {"custom_modules": {"torch.nn.Linear": "evil.Layer"}},
        {"trust_remote_code": True},
        {"megatron_core": "evil.module"},
        {"megatron_config": {"a": 1}},
        {"modules_to_save": ["lm_head"]},
        {"layer_replication": [[0, 2], [0, 2]]},
        {"init_lora_weights": "pissa"},
        {"use_rslora": True},
        {"use_dora": True},
        {"rank_pattern": {"q_proj": 9000}},
        {"bias": "all"},
        {"peft_type": "PROMPT_TUNING"},
        {"target_modules": "(a+)+$"},
        {"target_modules": ["(a+)+$"]},
        {"something_new": 1},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_a_configuration_that_is_more_than_plain_lora_is_refused(
    trained: Trained, settings: dict[str, Any]
) -> None:
    forged = change_config(trained, **settings)
    with pytest.raises(UnsafeAdapter, match=next(iter(settings))):
        check_adapter(trained.folder, forged, trained.base)


@pytest.mark.parametrize(
    "content",
    ["", "not json", "[]", "{" * 100_000, '{"pad": "' + "x" * 2_000_000 + '"}'],
)
def test_a_configuration_that_is_none_is_refused(
    trained: Trained, content: str
) -> None:
    (trained.folder / CONFIG).write_text(content)
    with pytest.raises(UnsafeAdapter, match=r"adapter_config\.json"):
        check_adapter(trained.folder, rerecord(trained), trained.base)


@pytest.mark.parametrize(
    "name",
    [
        "modeling.py",
        "weights.bin",
        "weights.pkl",
        "weights.pt",
        "lib.so",
        "Makefile",
        "sub/hidden.py",
        "extra.safetensors",
    ],
)
def test_a_file_that_could_run_or_that_nobody_recorded_is_refused(
    trained: Trained, name: str
) -> None:
    path = trained.folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"\x80\x04.")
    with pytest.raises(UnsafeAdapter, match=Path(name).name):
        check_adapter(trained.folder, trained.adapter, trained.base)


def test_a_pickle_is_refused_even_where_the_record_names_it(trained: Trained) -> None:
    (trained.folder / "adapter_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(UnsafeAdapter, match=r"adapter_model\.bin"):
        check_adapter(trained.folder, rerecord(trained), trained.base)


def test_a_symbolic_link_is_refused_though_its_target_has_the_right_bytes(
    trained: Trained,
) -> None:
    moved = (trained.folder / WEIGHTS).rename(
        trained.folder.parent / "elsewhere.safetensors"
    )
    (trained.folder / WEIGHTS).symlink_to(moved)
    with pytest.raises(UnsafeAdapter, match="symbolic link"):
        check_adapter(trained.folder, trained.adapter, trained.base)


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG])
def test_a_flipped_bit_is_found(trained: Trained, name: str) -> None:
    content = bytearray((trained.folder / name).read_bytes())
    content[-2] ^= 1
    (trained.folder / name).write_bytes(content)
    with pytest.raises(DamagedFile, match=name):
        check_adapter(trained.folder, trained.adapter, trained.base)


@pytest.mark.parametrize("kept", [0, 7, 1000])
def test_truncated_weights_are_found_with_and_without_the_right_digest(
    trained: Trained, kept: int
) -> None:
    path = trained.folder / WEIGHTS
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DamagedFile, match="recorded"):
        check_adapter(trained.folder, trained.adapter, trained.base)
    with pytest.raises(DamagedFile, match="no whole safetensors file"):
        check_adapter(trained.folder, rerecord(trained), trained.base)


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG])
def test_a_missing_file_is_named(trained: Trained, name: str) -> None:
    (trained.folder / name).unlink()
    with pytest.raises(DamagedFile, match=f"{name} is missing"):
        check_adapter(trained.folder, trained.adapter, trained.base)
    with pytest.raises(DamagedFile, match=f"does not name {name}"):
        check_adapter(trained.folder, rerecord(trained), trained.base)


def test_a_missing_folder_is_named(trained: Trained) -> None:
    with pytest.raises(DamagedFile, match="nowhere is not a folder"):
        check_adapter(trained.folder / "nowhere", trained.adapter, trained.base)


@pytest.mark.parametrize("name", ["../secret.json", "/etc/passwd", "..\\secret.json"])
def test_a_record_that_leads_out_of_the_folder_is_refused(
    trained: Trained, name: str
) -> None:
    forged = trained.adapter.model_copy(
        update={"files": {**trained.adapter.files, name: "0" * 64}}
    )
    with pytest.raises(UnsafeAdapter, match="leads out of its folder"):
        check_adapter(trained.folder, forged, trained.base)


def test_a_record_whose_own_digest_does_not_fit_its_files_is_refused(
    trained: Trained,
) -> None:
    forged = trained.adapter.model_copy(update={"sha256": "0" * 64})
    with pytest.raises(DamagedFile, match="make another digest"):
        check_adapter(trained.folder, forged, trained.base)


def test_tensors_that_are_no_lora_matrices_are_refused(trained: Trained) -> None:
    forged = change_tensors(
        trained,
        lambda tensors: tensors.update(
            {"base_model.model.lm_head.weight": torch.ones(2, 2)}
        ),
    )
    with pytest.raises(UnsafeAdapter, match="no LoRA matrix"):
        check_adapter(trained.folder, forged, trained.base)


def test_tensors_of_another_rank_than_the_configuration_are_refused(
    trained: Trained,
) -> None:
    forged = change_tensors(
        trained, lambda tensors: tensors.update({first(tensors): torch.ones(9, 32)})
    )
    with pytest.raises(UnsafeAdapter, match="rank 4"):
        check_adapter(trained.folder, forged, trained.base)


def test_integers_for_weights_are_refused(trained: Trained) -> None:
    forged = change_tensors(
        trained,
        lambda tensors: tensors.update(
            {first(tensors): torch.ones(4, 32, dtype=torch.int8)}
        ),
    )
    with pytest.raises(UnsafeAdapter, match="int8"):
        check_adapter(trained.folder, forged, trained.base)


def test_half_a_pair_is_refused(trained: Trained) -> None:
    forged = change_tensors(
        trained, lambda tensors: tensors.__delitem__(first(tensors))
    )
    with pytest.raises(UnsafeAdapter, match="lora_A and a lora_B"):
        check_adapter(trained.folder, forged, trained.base)


def test_no_weights_at_all_are_refused(trained: Trained) -> None:
    forged = change_tensors(trained, lambda tensors: tensors.clear())
    with pytest.raises(UnsafeAdapter, match="lora_A and a lora_B"):
        check_adapter(trained.folder, forged, trained.base)
