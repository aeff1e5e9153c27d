"""What the configuration of an adapter from another tool means, or why it is not taken in."""

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from core.errors import UnsafeAdapter, first_line
from core.files import sha256_of
from core.value import first_problem
from pipelines.models.adapter_files import CONFIG, WEIGHTS
from pipelines.values.elsewhere import TrainedElsewhere
from pipelines.values.params import LoraParams

_MAX_CONFIG_BYTES = 1_000_000
_PICKLES = ("adapter_model.bin", "adapter_model.pt", "pytorch_model.bin")
_PLAIN_NAME = re.compile(r"[\w-]+(\.[\w-]+)*")
_MEANS_NOTHING = {
    "auto_mapping",
    "base_model_name_or_path",
    "eva_config",
    "exclude_modules",
    "fan_in_fan_out",
    "inference_mode",
    "layers_pattern",
    "layers_to_transform",
    "lora_dropout",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "task_type",
}
"""Settings that change nothing here.

Some name classes to import; some say which modules were trained, which the weights say themselves.
"""
_READ = {
    "bias",
    "init_lora_weights",
    "lora_alpha",
    "peft_type",
    "r",
    "target_modules",
    "use_rslora",
}
# Others, such as PiSSA or LoftQ, train against a base whose weights they changed.
_INITS = (None, True, False, "gaussian", "eva", "orthogonal")
_LONGEST = 60


@dataclass(frozen=True)
class ForeignAdapter:
    """What a folder holds, once its configuration was understood; its weights were not read."""

    folder: Path
    lora: LoraParams
    names: tuple[str, ...]
    """Modules that its configuration names; none where that is a pattern."""
    provenance: TrainedElsewhere


def read_foreign_adapter(folder: Path) -> ForeignAdapter:
    """Understand an adapter's configuration; `UnsafeAdapter` says why it cannot be taken in."""
    if not folder.is_dir():
        raise UnsafeAdapter(
            f"There is no folder {folder}. "
            f"Give the one that holds {CONFIG} and {WEIGHTS}."
        )
    config_path = folder / CONFIG
    config = _read_config(config_path)
    _check_weights_are_plain(folder)
    _check_settings(config_path, config)
    alpha, notes = _plain_alpha(config_path, config)
    names = _named_modules(config.get("target_modules"))
    lora = _lora_params(config_path, config, alpha, names)
    stated = config.get("base_model_name_or_path")
    provenance = TrainedElsewhere(
        weights_sha256=sha256_of(folder / WEIGHTS),
        config_sha256=sha256_of(config_path),
        stated_base=stated[:200] if isinstance(stated, str) else None,
        notes=notes,
    )
    return ForeignAdapter(folder, lora, names, provenance)


def _read_config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UnsafeAdapter(
            f"{path} is missing, so that nothing says what the weights mean. "
            "Save the adapter with peft's save_pretrained."
        )
    # Before it is read: nobody knows yet what the file is.
    if path.stat().st_size > _MAX_CONFIG_BYTES:
        raise UnsafeAdapter(
            f"{path} has over {_MAX_CONFIG_BYTES} bytes; a LoRA configuration has a few "
            "hundred. Do not use this adapter."
        )
    try:
        config = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UnsafeAdapter(
            f"{path} is no JSON ({first_line(error)}). Save the adapter again."
        ) from error
    # A list is JSON too, and has no setting to ask for.
    if not isinstance(config, dict):
        raise UnsafeAdapter(f"{path} holds no JSON object. Save the adapter again.")
    return config


def _check_weights_are_plain(folder: Path) -> None:
    # A pickle beside it is not read, and so does no harm.
    if (folder / WEIGHTS).is_file():
        return
    pickles = [name for name in _PICKLES if (folder / name).exists()]
    if pickles:
        raise UnsafeAdapter(
            f"{folder / pickles[0]} is a pickle, which can run code when it is loaded. "
            "Have whoever trained it save it with safe_serialization=True."
        )
    raise UnsafeAdapter(
        f"{folder} holds no {WEIGHTS}. Give the folder that peft's save_pretrained wrote."
    )


def _check_settings(path: Path, config: dict[str, Any]) -> None:
    """Refuse what makes it another thing than two plain matrices a layer."""
    if config.get("peft_type") != "LORA":
        kind = _shown(config.get("peft_type"))
        raise UnsafeAdapter(
            f"{path}: peft_type is {kind}, and Assay serves LORA alone. "
            "Train a plain LoRA, or merge the weights into a base model of your own."
        )
    # Biases are weights of the base, which change with it.
    if config.get("bias", "none") != "none":
        raise _refusal(path, "bias", config["bias"])
    init = config.get("init_lora_weights")
    if init not in _INITS:
        raise UnsafeAdapter(
            f"{path}: init_lora_weights is {_shown(init)}, which changes the base's own weights. "
            "Save it as a plain LoRA with path_initial_model_for_weight_conversion."
        )
    # Unknown settings are refused: a later peft may have made one change the arithmetic.
    for name, setting in config.items():
        is_known = name in _MEANS_NOTHING or name in _READ
        if not is_known and not _is_unset(setting):
            raise _refusal(path, name, setting)


def _refusal(path: Path, name: str, setting: Any) -> UnsafeAdapter:
    return UnsafeAdapter(
        f"{path}: {name} is {_shown(setting)}, and Assay serves plain LoRA of linear layers "
        "alone. Train without it, or merge the weights into a base model of your own."
    )


def _shown(setting: Any) -> str:
    # As Python writes it: a control character of a stranger would reach the terminal.
    text = str(setting)
    beginning = text[:_LONGEST]
    return repr(beginning)


def _is_unset(setting: Any) -> bool:
    if setting is None or setting is False:
        return True
    if isinstance(setting, dict):
        # As peft writes a run-time configuration that nobody chose.
        return all(_is_unset(entry) for entry in setting.values())
    return setting in ("", [])


def _plain_alpha(path: Path, config: dict[str, Any]) -> tuple[float, tuple[str, ...]]:
    """The `alpha` whose plain LoRA computes the same, and a note where it is not the stated one.

    rsLoRA scales by alpha / sqrt(r) and LoRA by alpha / r (Kalajdzievski 2023, arXiv 2312.03732).
    """
    rank, alpha = config.get("r"), config.get("lora_alpha")
    is_scaled = config.get("use_rslora")
    numbers_are_plain = (
        _is_number(alpha) and type(rank) is int and is_scaled in (None, False, True)
    )
    if not numbers_are_plain or not isinstance(rank, int) or rank < 1:
        raise UnsafeAdapter(
            f"{path}: r {_shown(rank)} and lora_alpha {_shown(alpha)} are no rank and no "
            "number. Save the adapter again."
        )
    # Most adapters.
    if not is_scaled:
        return float(alpha or 0), ()
    plain = float(alpha or 0) * math.sqrt(rank)
    note = (
        f"rsLoRA with alpha {alpha:g} was written as plain LoRA with alpha {plain:g}, "
        "which computes the same"
    )
    return plain, (note,)


def _is_number(setting: Any) -> bool:
    # Of exactly these types: `true` is an integer for Python.
    kind = type(setting)
    return kind in (int, float)


def _named_modules(modules: Any) -> tuple[str, ...]:
    """The names of a list of module names; none of a pattern, which is never run."""
    if not isinstance(modules, list):
        return ()
    is_plain = all(
        isinstance(name, str) and _PLAIN_NAME.fullmatch(name) for name in modules
    )
    return tuple(sorted(modules)) if is_plain else ()


def _lora_params(
    path: Path, config: dict[str, Any], alpha: float, names: tuple[str, ...]
) -> LoraParams:
    # It acts in training alone, so that a doubtful one is no reason to refuse.
    dropout = config.get("lora_dropout", 0.0)
    try:
        return LoraParams(
            r=config["r"],
            alpha=alpha,
            dropout=dropout if _is_number(dropout) else 0.0,
            target_modules=names,
        )
    except ValidationError as error:
        raise UnsafeAdapter(
            f"{path} is no LoRA that Assay takes in: {first_problem(error)}. "
            "Save the adapter again."
        ) from error
