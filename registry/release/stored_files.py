"""Whether the files beside stored evidence are about the scored adapter, base and configuration."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from core.errors import DamagedFile
from core.files import digest_of_files, folder_bytes, folder_digests, sha256_of
from pipelines.scoring.evidence_file import Evidence
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.evidence import Adapter, Scorecard
from pipelines.values.params import load_params
from registry.release.known_answers import FILE as KNOWN_ANSWERS
from registry.release.known_answers import known_answer_differences
from registry.release.package_signature import package_digests

DIGESTS = "package.json"
RECORD = "adapter.json"
MANIFEST = "base_model.json"
TEMPLATE = "chat_template.jinja"
WEIGHTS = "adapter"


def file_differences(folder: Path, scorecard: Scorecard) -> Iterator[str]:
    """A sentence for each file that contradicts the scorecard, or is not what was packed.

    A run's evidence holds no weights, so their absence is no difference there; in a package
    `package.json` names them. `DamagedFile` where a file cannot be read.
    """
    yield from _packing_differences(folder)
    yield from _adapter_differences(folder, scorecard)
    yield from _base_differences(folder, scorecard)
    yield from _generation_differences(folder, scorecard)
    # A run that was refused has no package, and so no known answers.
    if (folder / KNOWN_ANSWERS).exists():
        length = scorecard.spec.default_max_tokens
        yield from known_answer_differences(folder, length)


def _generation_differences(folder: Path, scorecard: Scorecard) -> Iterator[str]:
    """Where the parameters ask for other answers than were scored.

    By them a champion is scored again.
    """
    spec = scorecard.spec
    asked = load_params(folder / "params.yaml").generation
    length = spec.default_max_tokens
    if length != asked.max_new_tokens:
        yield (
            f"scorecard.spec: answers of {length} tokens were scored, "
            f"params.yaml asks for {asked.max_new_tokens}"
        )
    scored_as = f"{spec.engine} in {spec.precision}"
    asked_for = f"{asked.engine} in {asked.precision}"
    if scored_as != asked_for:
        yield (
            f"scorecard.spec: answers by {scored_as} were scored, "
            f"params.yaml asks for {asked_for}"
        )


def size_differences(folder: Path, evidence: Evidence) -> Iterator[str]:
    """Where the evidence says another size of the adapter than its files in a package have."""
    weights = folder / WEIGHTS
    if not weights.is_dir():
        return
    there = folder_bytes(weights)
    # Older evidence does not say it.
    said = {row.row.adapter_bytes for row in evidence.rows["adapter"]} - {None}
    for size in said - {there}:
        yield f"evidence.adapter: {size} bytes were scored, and {WEIGHTS}/ has {there}"


def _packing_differences(folder: Path) -> Iterator[str]:
    # Only a package lists its files; a run's evidence has no such list.
    if not (folder / DIGESTS).exists():
        return
    for name, fact in changes_since_packing(folder):
        yield f"package: {name} {fact}"


def changes_since_packing(
    folder: Path, digests: dict[str, str] | None = None
) -> Iterator[tuple[str, str]]:
    """Yield each file that is not as it was packed, and what became of it.

    `digests` is what `package_digests` gave a moment ago, so that files are not read once more.
    `DamagedFile` where the folder has no whole list of its files.
    """
    packed = _read_digests(folder / DIGESTS)
    present = dict(package_digests(folder) if digests is None else digests)
    # The list cannot contain its own digest, and the signature covers the list.
    present.pop(DIGESTS, None)
    for name in sorted(present.keys() | packed.keys()):
        if present.get(name) == packed.get(name):
            continue
        if name not in present:
            yield name, "is missing"
        elif name not in packed:
            yield name, "came in after packing"
        else:
            yield name, "is not what was packed"


def _read_digests(path: Path) -> dict[str, Any]:
    try:
        packed = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedFile(
            f"{path} holds no digests ({type(error).__name__}). Fetch the package again."
        ) from error
    if not isinstance(packed, dict):
        raise DamagedFile(f"{path} holds no digests. Fetch the package again.")
    return packed


def _adapter_differences(folder: Path, scorecard: Scorecard) -> Iterator[str]:
    scored = scorecard.adapter
    record = folder / RECORD
    if record.exists() and Adapter.read(record) != scored:
        yield (
            f"adapter: {RECORD} is about another adapter, "
            "or another training, than the scorecard"
        )
    weights = folder / WEIGHTS
    if not weights.is_dir():
        return
    digests = folder_digests(weights)
    # Both are compared: the scorecard's list of files may not follow from its own digest.
    if digests != scored.files or digest_of_files(digests) != scored.sha256:
        yield f"adapter: {WEIGHTS}/ holds other files than were scored"


def _base_differences(folder: Path, scorecard: Scorecard) -> Iterator[str]:
    spec = scorecard.spec
    if (folder / MANIFEST).exists():
        base = BaseModelManifest.read(folder / MANIFEST)
        # A manifest could name a base that its own files do not make.
        if digest_of_files(base.files) != base.digest:
            yield f"base: the files of {MANIFEST} do not make its digest"
        stored = (base.digest, base.chat_template_sha256)
        scored = (spec.base_digest, spec.chat_template_sha256)
        if stored != scored:
            yield f"base: {MANIFEST} is another base or template than the one that was scored"
    template = folder / TEMPLATE
    if template.exists() and sha256_of(template) != spec.chat_template_sha256:
        yield f"base: {TEMPLATE} is another template than the one that was scored"
