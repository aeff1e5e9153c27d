"""Check that a folder is the adapter that was recorded, and that nothing in it can run.

Asked before an adapter is scored, registered or served.
"""

import math
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationError

from core.errors import DamagedFile, UnsafeAdapter
from core.files import digest_of_files, sha256_of
from core.value import Value, first_problem
from pipelines.models.prompt_files import check_prompt
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.evidence import Adapter
from pipelines.values.fixed_prompt import FILE as PROMPT
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
# The file is read whole, before anything says that it is one of peft's.
_MAX_CONFIG_BYTES = 1_000_000
_LORA_TENSOR = re.compile(r"base_model\.model\.([\w.]+)\.lora_([AB])\.weight")
_MODULE_NAME = re.compile(r"[\w.-]+")
# What peft writes without being asked. Every other key must be unset:
# several of them name modules to import or change the base.
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
    # GPT-2 keeps its matrices turned. peft corrects it by the kind of module, whatever is said.
    fan_in_fan_out: Annotated[bool, Field(strict=True)] = False
    megatron_core: Literal["megatron.core"] | None = None


def check_adapter(folder: Path, adapter: Adapter, base: BaseModelManifest) -> None:
    """Return only if `folder` is the recorded adapter, belongs to `base`, and is safe to load.

    It has to be plain finite LoRA weights, or a prompt and nothing else. `DamagedFile` where bytes
    differ from the record, `UnsafeAdapter` where they agree and must not be loaded all the same.
    """
    check_kinds(folder, recorded=set(adapter.files))
    # Digests first: what follows may take the files for what the record says.
    _check_digests(folder, adapter)
    _check_base(adapter, base)
    if adapter.prompt is not None:
        check_prompt(folder, adapter.prompt, adapter.files)
        return
    if adapter.lora is None:
        raise DamagedFile(
            f"The record of {folder} names neither LoRA weights nor a prompt. "
            "Fetch the package again."
        )
    check_plain_lora(folder, adapter.lora)


def check_plain_lora(folder: Path, lora: LoraParams) -> None:
    """Return only if peft saved plain finite LoRA weights in `folder`; `UnsafeAdapter` otherwise.

    No record is needed: what training is about to make can be asked before it is trained.
    """
    _check_config(folder / CONFIG, lora)
    _check_tensors(folder / WEIGHTS, lora.r)


def check_kinds(folder: Path, recorded: set[str] | None) -> None:
    """Refuse links, and anything that is not a plain data file.

    `UnsafeAdapter` names the first link, code, pickle, or file of weights that is not among
    the `recorded` names; None: the record is not read yet. `DamagedFile` where there is no folder.
    """
    if not folder.is_dir():
        raise DamagedFile(
            f"{folder} is not a folder. "
            f"Give the folder that holds {CONFIG} and {WEIGHTS}."
        )
    for path in sorted(folder.rglob("*")):
        # A link could lead to other bytes after this check.
        if path.is_symlink():
            raise UnsafeAdapter(
                f"{path} is a symbolic link. "
                "An adapter holds its files themselves: copy the file there."
            )
        if not path.is_dir():
            name = path.relative_to(folder).as_posix()
            _check_kind(path, is_recorded=recorded is None or name in recorded)


def _check_kind(path: Path, *, is_recorded: bool) -> None:
    kind = path.suffix.lower()
    if not path.is_file() or kind not in _PLAIN_KINDS:
        raise UnsafeAdapter(
            f"{path} is no file that an adapter may hold: code and pickles can run. "
            "Remove it, or train again."
        )
    if kind == ".safetensors" and not is_recorded:
        raise UnsafeAdapter(
            f"{path} holds weights that the adapter's record does not name. Remove it."
        )


def _check_digests(folder: Path, adapter: Adapter) -> None:
    needed = {CONFIG, WEIGHTS} if adapter.prompt is None else {PROMPT}
    missing = needed - set(adapter.files)
    if missing:
        names = " and ".join(sorted(missing))
        raise DamagedFile(
            f"The record of the adapter in {folder} does not name {names}. Train again."
        )
    for name, expected in adapter.files.items():
        _check_digest(folder / _plain_name(name), expected)
    if digest_of_files(adapter.files) != adapter.sha256:
        raise DamagedFile(
            f"The adapter in {folder} is recorded as {adapter.sha256[:12]}, "
            "but its files make another digest. Train again."
        )


def _check_digest(path: Path, expected: str) -> None:
    if not path.is_file():
        raise DamagedFile(
            f"{path} is missing. Fetch the adapter again, or run `dvc repro fine_tune`."
        )
    if sha256_of(path) != expected:
        raise DamagedFile(
            f"{path} is not what was recorded ({expected[:12]}). "
            "Fetch the adapter again, or run `dvc repro fine_tune`."
        )


def _plain_name(name: str) -> PurePosixPath:
    """Return a recorded name as a path below the folder; the record itself may be forged."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name:
        raise UnsafeAdapter(
            f"The adapter's record names {name!r}, which leads out of its folder. "
            "Do not use this adapter."
        )
    return path


def _check_base(adapter: Adapter, base: BaseModelManifest) -> None:
    if adapter.base_digest != base.digest:
        trained_on = f"{adapter.base_id} {adapter.base_digest[:12]}"
        raise UnsafeAdapter(
            f"The adapter was trained on {trained_on}, "
            f"not on {base.id} {base.digest[:12]}. "
            "Give it its own base model."
        )
    # Under another template the weights would see prompts of a form they never saw.
    if adapter.chat_template_sha256 != base.chat_template_sha256:
        raise UnsafeAdapter(
            f"The adapter was trained under another chat template than {base.id} has here. "
            "Give it its own with --chat-template."
        )


def _check_config(path: Path, lora: LoraParams) -> None:
    config = _read_lora_config(path)
    settings_beside = config.model_extra or {}
    for key, setting in settings_beside.items():
        if key not in _HARMLESS and not _is_unset(setting):
            shown = repr(str(setting)[:60])
            raise UnsafeAdapter(
                f"{path}: {key} is set ({shown}), and Assay loads plain LoRA only. "
                "Train again without it."
            )
    if (config.r, config.lora_alpha) != (lora.r, lora.alpha):
        raise UnsafeAdapter(
            f"{path}: r {config.r} and alpha {config.lora_alpha:g} "
            f"are not the recorded {lora.r} and {lora.alpha:g}. Train again."
        )
    _check_target_modules(path, config.target_modules, lora)


def _read_lora_config(path: Path) -> _LoraConfig:
    size = path.stat().st_size
    if size > _MAX_CONFIG_BYTES:
        raise UnsafeAdapter(
            f"{path} has {size} bytes; a LoRA configuration has a few hundred. "
            "Do not use this adapter."
        )
    try:
        return _LoraConfig.model_validate_json(path.read_bytes())
    except ValidationError as error:
        problem = first_problem(error)
        raise UnsafeAdapter(
            f"{path} is no LoRA configuration that Assay loads: {problem}. Train again."
        ) from error


def _is_unset(setting: Any) -> bool:
    if setting is None or setting is False:
        return True
    # Not a set: dictionaries and lists cannot be in one.
    return setting in ("", {}, [])


def _check_target_modules(
    path: Path, modules: str | tuple[str, ...], lora: LoraParams
) -> None:
    """Refuse module names that are none; peft takes a single string as a regular expression.

    Of those, only the one that the parameters gave is accepted.
    """
    if modules == lora.target_modules:
        return
    is_list_of_names = (
        not isinstance(modules, str)
        and bool(modules)
        and all(_MODULE_NAME.fullmatch(name) for name in modules)
    )
    if not is_list_of_names:
        shown = repr(str(modules)[:60])
        raise UnsafeAdapter(
            f"{path}: target_modules {shown} are not module names. Train again."
        )


def _check_tensors(path: Path, rank: int) -> None:
    modules: dict[str, set[str]] = {"A": set(), "B": set()}
    for name, tensor in _read_tensors(path):
        match = _LORA_TENSOR.fullmatch(name)
        if match is None:
            raise UnsafeAdapter(
                f"{path} holds {name[:80]!r}, which is no LoRA matrix. Train again."
            )
        module, half = match[1], match[2]
        modules[half].add(module)
        # A maps inputs down to the rank, B maps the rank up to outputs.
        rank_axis = 0 if half == "A" else 1
        _check_tensor(f"{path}: {name}", tensor, rank_axis, rank)
    # Without any tensor it would be the base model under another name.
    if not modules["A"] or modules["A"] != modules["B"]:
        raise UnsafeAdapter(
            f"{path} does not hold a lora_A and a lora_B for each of its modules. "
            "Train again."
        )


def _check_tensor(place: str, tensor: Any, rank_axis: int, rank: int) -> None:
    """Refuse a tensor that is not (rank, inputs) or (outputs, rank) of finite numbers."""
    is_lora_matrix = (
        tensor.ndim == 2
        and tensor.shape[rank_axis] == rank
        and tensor.is_floating_point()
    )
    if not is_lora_matrix:
        shape = tuple(tensor.shape)
        raise UnsafeAdapter(
            f"{place} has shape {shape} and type {tensor.dtype}, "
            f"which is no LoRA matrix of rank {rank}. Train again."
        )
    # The sum is finite only if every element is, and overflows only where an element is
    # absurd; in double it costs one pass.
    total = float(tensor.double().abs().sum())
    if not math.isfinite(total):
        raise UnsafeAdapter(
            f"{place} holds NaN or Inf, so that every answer would be noise. "
            "Lower train.learning_rate and train again."
        )


def _read_tensors(path: Path) -> Iterator[tuple[str, Any]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as tensors:
            # `safe_open` gives a reader, not a mapping.
            for name in tensors.keys():  # noqa: SIM118
                yield name, tensors.get_tensor(name)
    except SafetensorError as error:
        raise DamagedFile(
            f"{path} is no whole safetensors file. "
            "Fetch the adapter again, or run `dvc repro fine_tune`."
        ) from error
