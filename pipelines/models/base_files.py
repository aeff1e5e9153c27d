"""The files of a base model: which ones are loaded, what they hash to, and what they say.

Refused before anything is trained: pickles, code, quantised weights, an architecture that does not
answer text with text, and a folder without what loading needs.
"""

import json
import math
from pathlib import Path
from typing import Any

from core.errors import UnusableBaseModel, first_line
from core.files import sha256_of

# What serving refuses beside the weights is refused before training.
_UNSAFE_SUFFIXES = {
    ".py",
    ".bin",
    ".pt",
    ".pth",
    ".pkl",
}
# What transformers reads: these files make the model's identity.
_SUFFIXES = {".json", ".safetensors", ".jinja", ".txt", ".model"}
# Names under which models without `max_position_embeddings` give their context.
_CONTEXTS = ("max_position_embeddings", "seq_length", "max_seq_len", "n_ctx")
# Of a model that knows no limit, such as one with a recurrent state.
_UNLIMITED = 2048
# Tokenizers without a limit give a number like 10**30.
_MOST_TOKENS = 10**8


def check_folder(folder: Path) -> None:
    """Raise `UnusableBaseModel` for what could not be loaded, trained or served afterwards."""
    _check_files(folder)
    _check_config(folder)
    _refuse_unsafe_files(folder)


def digest_model_files(folder: Path) -> dict[str, str]:
    """SHA-256 of the weights, the tokenizer and their settings, by name."""
    return {
        path.name: sha256_of(path)
        for path in sorted(folder.iterdir())
        if path.is_file() and path.suffix in _SUFFIXES
    }


def read_template(folder: Path) -> str | None:
    """Return the template of its own file or, as older models have it, of the tokenizer.

    Of several named ones the one called `default`. None where there is none at all.
    `UnusableBaseModel` where there are several and none is the default.
    """
    jinja = folder / "chat_template.jinja"
    try:
        if jinja.is_file():
            return jinja.read_text(encoding="utf-8")
        template = _read_object(folder / "tokenizer_config.json").get("chat_template")
        # Models that also read images keep it beside their processor.
        if template is None:
            template = _read_object(folder / "chat_template.json").get("chat_template")
    except ValueError as error:
        raise UnusableBaseModel(
            f"{folder} holds a chat template or a tokenizer_config.json "
            "that is no UTF-8 or no JSON. Write it again."
        ) from error
    chosen = _choose_default(folder, template)
    if chosen is None:
        _refuse_additional_templates(folder)
    return chosen


def count_parameters(folder: Path) -> int:
    """Count from the headers of the files that are loaded: no weight is read."""
    from safetensors import SafetensorError, safe_open

    total = 0
    for path in _list_weights(folder):
        try:
            with safe_open(str(path), framework="np") as tensors:
                # `safe_open` gives a reader, not a mapping.
                for name in tensors.keys():  # noqa: SIM118
                    header = tensors.get_slice(name)
                    total += math.prod(header.get_shape())
        except SafetensorError as error:
            raise UnusableBaseModel(
                f"{path} is not a whole safetensors file. Copy it again."
            ) from error
    return total


def load_config(folder: Path) -> Any:
    """Load the configuration of a model that continues a text.

    `UnusableBaseModel` where transformers knows no such model, or one of another kind.
    """
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    # Class by class, transformers checks settings of its own, and fails in its own ways.
    try:
        config = AutoConfig.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    except Exception as error:
        raise UnusableBaseModel(
            f"{folder}/config.json describes no model that transformers loads "
            f"({first_line(error)}). Try it with transformers by itself."
        ) from error
    if config.is_encoder_decoder or type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise UnusableBaseModel(
            f"{folder} is a model of type {config.model_type}, which does not continue a text. "
            "Give a decoder, such as Llama or Qwen."
        )
    return config


def read_context_tokens(folder: Path) -> int:
    """Return the longest context in tokens, as the model's own configuration names it.

    Where it names none, that of the tokenizer, and 2048 without one. Errors are those of
    `load_config`.
    """
    config = load_config(folder)
    text_part = config.get_text_config(decoder=True)
    for name in _CONTEXTS:
        # The configuration's attribute map leads to `n_positions` of GPT-2.
        tokens = getattr(text_part, name, None)
        if tokens is not None:
            return _check_tokens(folder, name, tokens)
    tokenizer_config = _read_object(folder / "tokenizer_config.json")
    tokens = tokenizer_config.get("model_max_length")
    if isinstance(tokens, int) and 0 < tokens < _MOST_TOKENS:
        return tokens
    return _UNLIMITED


def _list_weights(folder: Path) -> list[Path]:
    """The files that transformers loads weights from: one, or those that an index lists.

    Others beside them, such as Mistral's `consolidated.safetensors`, hold the same weights again.
    """
    single = folder / "model.safetensors"
    if single.is_file():
        return [single]
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        raise UnusableBaseModel(
            f"{folder} has neither model.safetensors nor model.safetensors.index.json, one of "
            "which transformers loads. Save the model with save_pretrained."
        )
    try:
        places = _read_object(index).get("weight_map")
    except ValueError as error:
        raise UnusableBaseModel(
            f"{index} is no UTF-8 or no JSON. Copy it again."
        ) from error
    listed = places.values() if isinstance(places, dict) else []
    names = sorted({str(name) for name in listed})
    # By the names in the folder itself: the digest covers no file elsewhere.
    there = {path.name for path in folder.glob("*.safetensors") if path.is_file()}
    missing = [name for name in names if name not in there]
    if missing or not names:
        raise UnusableBaseModel(
            f"{index} lists {missing[0] if missing else 'no files'}, and the folder has none such. "
            "Copy the model again, whole."
        )
    return [folder / name for name in names]


def _check_tokens(folder: Path, name: str, tokens: object) -> int:
    if type(tokens) is not int or tokens < 1:
        shown = str(tokens)
        shown = shown[:40]
        raise UnusableBaseModel(
            f"{folder}/config.json says that {name} is {shown}. Write a number of tokens."
        )
    return tokens


def _choose_default(folder: Path, template: object) -> str | None:
    if template is None or isinstance(template, str):
        return template
    named: dict[str, object] = {}
    # Some write a list of names with their templates, some an object.
    if isinstance(template, dict):
        named = {str(name): text for name, text in template.items()}
    if isinstance(template, list):
        for entry in template:
            if isinstance(entry, dict):
                name = str(entry.get("name"))
                named[name] = entry.get("template")
    default = named.get("default")
    if isinstance(default, str):
        return default
    names = ", ".join(sorted(named)) or "none with a name"
    shown = names[:80]
    raise UnusableBaseModel(
        f"{folder} has several chat templates ({shown}) and no default. "
        "Give one with --chat-template FILE."
    )


def _refuse_additional_templates(folder: Path) -> None:
    """Raise `UnusableBaseModel` where all templates of a folder are for special purposes."""
    additional = folder / "additional_chat_templates"
    names = sorted(path.stem for path in additional.glob("*.jinja"))
    if names:
        shown = ", ".join(names)
        raise UnusableBaseModel(
            f"{additional} has chat templates ({shown[:80]}), and none is the default. "
            "Give one with --chat-template FILE."
        )


def _check_files(folder: Path) -> None:
    if not folder.is_dir():
        raise UnusableBaseModel(
            f"There is no folder {folder}. --base-model wants a folder with config.json, "
            "*.safetensors and a tokenizer."
        )
    for needed in ("config.json", "tokenizer_config.json"):
        if not (folder / needed).is_file():
            raise UnusableBaseModel(
                f"{folder} has no {needed}. --base-model wants a folder as transformers' "
                "save_pretrained writes it, tokenizer included."
            )
    if not any(folder.glob("*.safetensors")):
        raise UnusableBaseModel(
            f"{folder} has no *.safetensors. "
            "Convert the weights: pickled ones can run code and are not loaded."
        )


def _check_config(folder: Path) -> None:
    config = _read_config(folder)
    if "auto_map" in config:
        raise UnusableBaseModel(
            f"{folder}/config.json points at code of its own (auto_map), "
            "which is not run. Use a model that transformers knows."
        )
    if config.get("quantization_config"):
        raise UnusableBaseModel(
            f"{folder}/config.json says that the weights are quantised, "
            "which cannot be trained on. Give the full weights."
        )


def _refuse_unsafe_files(folder: Path) -> None:
    # transformers would load a neighbouring adapter without being asked.
    unsafe = sorted(
        path.name
        for path in folder.iterdir()
        if path.suffix in _UNSAFE_SUFFIXES or path.name == "adapter_config.json"
    )
    if unsafe:
        raise UnusableBaseModel(
            f"{folder} holds {unsafe[0]}, "
            "which could run code or change what is loaded. Move it out of the folder."
        )


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        return _read_object(folder / "config.json")
    except (OSError, ValueError) as error:
        raise UnusableBaseModel(
            f"{folder}/config.json cannot be read as JSON. "
            "Bring the folder back as save_pretrained wrote it."
        ) from error


def _read_object(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    document = json.loads(path.read_text(encoding="utf-8"))
    return document if isinstance(document, dict) else {}
