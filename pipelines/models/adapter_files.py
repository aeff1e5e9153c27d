"""Is this folder the adapter that was recorded, and can nothing in it run? Asked before an adapter is scored, registered or served."""

import math
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationError

from core.errors import DamagedFile, UnsafeAdapter
from core.files import digest_of_files, sha256_of
from core.value import Value, first_problem
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.evidence import Adapter
from pipelines.values.params import LoraParams

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_PLAIN_KINDS = {
    ".csv",
    ".jinja",
    ".json",
    ".jsonl",
    ".lock",
    ".md",
    ".model",
    ".parquet",
    ".safetensors",
    ".txt",
    ".yaml",
}
_MAX_CONFIG_BYTES = 1_000_000
_LORA_TENSOR = re.compile(r"base_model\.model\.([\w.]+)\.lora_([AB])\.weight")
_MODULE_NAME = re.compile(r"[\w.-]+")
# What peft writes without being asked. Every other key must be unset: several of them name modules to import or change the base.
_HARMLESS = {
    "base_model_name_or_path",
    "revision",
    "inference_mode",
    "peft_version",
    "qalora_group_size",
}


class _LoraConfig(Value):
    """The part of peft's adapter_config.json that says what the weights mean."""

    model_config = ConfigDict(extra="allow")

    peft_type: Literal["LORA"]
    task_type: Literal["CAUSAL_LM"]
    r: Annotated[int, Field(ge=1, le=1024, strict=True)]
    lora_alpha: Annotated[float, Field(gt=0)]
    target_modules: str | tuple[str, ...]
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    bias: Literal["none"] = "none"
    init_lora_weights: bool = True
    use_rslora: Literal[False] = False
    megatron_core: Literal["megatron.core"] | None = None


def check_adapter(folder: Path, adapter: Adapter, base: BaseModelManifest) -> None:
    """Return only if every byte is the recorded one, the adapter belongs to `base`, and its weights are plain finite LoRA weights.

    `DamagedFile` where bytes differ, `UnsafeAdapter` where they are as recorded and must not be loaded all the same.
    """
    check_kinds(folder, recorded=set(adapter.files))
    _check_digests(folder, adapter)
    _check_base(adapter, base)
    _check_config(folder / CONFIG, adapter.lora)
    _check_tensors(folder / WEIGHTS, adapter.lora.r)


def check_kinds(folder: Path, recorded: set[str]) -> None:
    """Refuse links, and anything that is not a plain data file: code, pickles, weights that nobody recorded."""
    if not folder.is_dir():
        raise DamagedFile(
            f"{folder} is not a folder. Give the folder that holds {CONFIG} and {WEIGHTS}."
        )
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            raise UnsafeAdapter(
                f"{path} is a symbolic link. An adapter holds its files themselves: copy the file there."
            )
        if not path.is_dir():
            _check_kind(path, path.relative_to(folder).as_posix() in recorded)


def _check_kind(path: Path, is_recorded: bool) -> None:
    if not path.is_file() or path.suffix.lower() not in _PLAIN_KINDS:
        raise UnsafeAdapter(
            f"{path} is no file that an adapter may hold: code and pickles can run. Remove it, or train again."
        )
    if path.suffix.lower() == ".safetensors" and not is_recorded:
        raise UnsafeAdapter(
            f"{path} holds weights that the adapter's record does not name. Remove it."
        )


def _check_digests(folder: Path, adapter: Adapter) -> None:
    missing = {CONFIG, WEIGHTS} - set(adapter.files)
    if missing:
        raise DamagedFile(
            f"The record of the adapter in {folder} does not name {' and '.join(sorted(missing))}. Train again."
        )
    for name, expected in adapter.files.items():
        path = folder / _plain_name(name)
        if not path.is_file():
            raise DamagedFile(
                f"{path} is missing. Fetch the adapter again, or run `dvc repro fine_tune`."
            )
        if sha256_of(path) != expected:
            raise DamagedFile(
                f"{path} is not what was recorded ({expected[:12]}). Fetch the adapter again, or run `dvc repro fine_tune`."
            )
    if digest_of_files(adapter.files) != adapter.sha256:
        raise DamagedFile(
            f"The adapter in {folder} is recorded as {adapter.sha256[:12]}, but its files make another digest. Train again."
        )


def _plain_name(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name:
        raise UnsafeAdapter(
            f"The adapter's record names {name!r}, which leads out of its folder. Do not use this adapter."
        )
    return path


def _check_base(adapter: Adapter, base: BaseModelManifest) -> None:
    if adapter.base_digest != base.digest:
        raise UnsafeAdapter(
            f"The adapter was trained on {adapter.base_id} {adapter.base_digest[:12]}, not on {base.id} {base.digest[:12]}. "
            "Give it its own base model."
        )
    if adapter.chat_template_sha256 != base.chat_template_sha256:
        raise UnsafeAdapter(
            f"The adapter was trained under another chat template than {base.id} has here. Give it its own with --chat-template."
        )


def _check_config(path: Path, lora: LoraParams) -> None:
    config = _read_config(path)
    for key, setting in (config.model_extra or {}).items():
        if key not in _HARMLESS and not _is_unset(setting):
            raise UnsafeAdapter(
                f"{path}: {key} is set ({str(setting)[:60]!r}), and Assay loads plain LoRA only. Train again without it."
            )
    if (config.r, config.lora_alpha) != (lora.r, lora.alpha):
        raise UnsafeAdapter(
            f"{path}: r {config.r} and alpha {config.lora_alpha:g} are not the recorded {lora.r} and {lora.alpha:g}. Train again."
        )
    _check_target_modules(path, config.target_modules, lora)


def _read_config(path: Path) -> _LoraConfig:
    if path.stat().st_size > _MAX_CONFIG_BYTES:
        raise UnsafeAdapter(
            f"{path} has {path.stat().st_size} bytes; a LoRA configuration has a few hundred. Do not use this adapter."
        )
    try:
        return _LoraConfig.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise UnsafeAdapter(
            f"{path} is no LoRA configuration that Assay loads: {first_problem(error)}. Train again."
        ) from error


def _is_unset(setting: Any) -> bool:
    return setting is None or setting is False or setting in ("", {}, [])


def _check_target_modules(
    path: Path, modules: str | tuple[str, ...], lora: LoraParams
) -> None:
    """A single string is a regular expression to peft: only the one that the parameters gave is taken."""
    if modules == lora.target_modules:
        return
    if (
        isinstance(modules, str)
        or not modules
        or not all(_MODULE_NAME.fullmatch(name) for name in modules)
    ):
        raise UnsafeAdapter(
            f"{path}: target_modules {str(modules)[:60]!r} are not module names. Train again."
        )


def _check_tensors(path: Path, rank: int) -> None:
    halves: dict[str, set[str]] = {"A": set(), "B": set()}
    for name, tensor in _tensors(path):
        found = _LORA_TENSOR.fullmatch(name)
        if found is None:
            raise UnsafeAdapter(
                f"{path} holds {name[:80]!r}, which is no LoRA matrix. Train again."
            )
        halves[found[2]].add(found[1])
        _check_tensor(
            path, name, tensor, rank_axis=0 if found[2] == "A" else 1, rank=rank
        )
    if not halves["A"] or halves["A"] != halves["B"]:
        raise UnsafeAdapter(
            f"{path} does not hold a lora_A and a lora_B for each of its modules. Train again."
        )


def _check_tensor(
    path: Path, name: str, tensor: Any, rank_axis: int, rank: int
) -> None:
    if (
        tensor.ndim != 2
        or tensor.shape[rank_axis] != rank
        or not tensor.is_floating_point()
    ):
        raise UnsafeAdapter(
            f"{path}: {name} has shape {tuple(tensor.shape)} and type {tensor.dtype}, which is no LoRA matrix of rank {rank}. Train again."
        )
    # The sum is finite only if every element is, and overflows only where an element is absurd; in double it costs one pass.
    if not math.isfinite(float(tensor.double().abs().sum())):
        raise UnsafeAdapter(
            f"{path}: {name} holds NaN or Inf, so that every answer would be noise. Lower train.learning_rate and train again."
        )


def _tensors(path: Path) -> Iterator[tuple[str, Any]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - safe_open gives a reader, not a mapping
                yield name, tensors.get_tensor(name)
    except SafetensorError as error:
        raise DamagedFile(
            f"{path} is no whole safetensors file. Fetch the adapter again, or run `dvc repro fine_tune`."
        ) from error
