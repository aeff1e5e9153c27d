"""Whether the files beside stored evidence are about the adapter, the base and the configuration that were scored."""

import json
from collections.abc import Iterator
from pathlib import Path

from core.errors import DamagedFile
from core.files import digest_of_files, folder_digests, sha256_of
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.evidence import Adapter, Scorecard
from pipelines.values.params import load_params
from registry.release.known_answers import FILE as KNOWN_ANSWERS
from registry.release.known_answers import known_answer_differences

DIGESTS = "package.json"
RECORD = "adapter.json"
MANIFEST = "base_model.json"
TEMPLATE = "chat_template.jinja"
WEIGHTS = "adapter"


def file_differences(folder: Path, scorecard: Scorecard) -> Iterator[str]:
    """Each file that is there and says something else than the scorecard, and of a package each that is not what was packed.

    A run's evidence holds no weights, so that their absence is no difference there; in a package `package.json` names them.
    """
    yield from _packed_differences(folder)
    yield from _adapter_differences(folder, scorecard)
    yield from _base_differences(folder, scorecard)
    length = load_params(folder / "params.yaml").generation.max_new_tokens
    if scorecard.spec.default_max_tokens != length:
        yield f"scorecard.spec: answers of {scorecard.spec.default_max_tokens} tokens were scored, params.yaml asks for {length}"
    if (folder / KNOWN_ANSWERS).exists():
        yield from known_answer_differences(folder, scorecard.spec.default_max_tokens)


def _packed_differences(folder: Path) -> Iterator[str]:
    path = folder / DIGESTS
    if not path.exists():
        return
    try:
        packed = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedFile(
            f"{path} holds no digests ({type(error).__name__}). Fetch the package again."
        ) from error
    if not isinstance(packed, dict):
        raise DamagedFile(f"{path} holds no digests. Fetch the package again.")
    found = folder_digests(folder)
    found.pop(DIGESTS, None)
    for name in sorted(found.keys() | packed.keys()):
        if found.get(name) != packed.get(name):
            fact = (
                "is missing"
                if name not in found
                else "came in after packing"
                if name not in packed
                else "is not what was packed"
            )
            yield f"package: {name} {fact}"


def _adapter_differences(folder: Path, scorecard: Scorecard) -> Iterator[str]:
    scored = scorecard.adapter
    if (folder / RECORD).exists() and Adapter.read(folder / RECORD) != scored:
        yield f"adapter: {RECORD} is about another adapter, or another training, than the scorecard"
    if (folder / WEIGHTS).is_dir():
        found = folder_digests(folder / WEIGHTS)
        if found != scored.files or digest_of_files(found) != scored.sha256:
            yield f"adapter: {WEIGHTS}/ holds other files than were scored"


def _base_differences(folder: Path, scorecard: Scorecard) -> Iterator[str]:
    spec = scorecard.spec
    if (folder / MANIFEST).exists():
        base = BaseModelManifest.read(folder / MANIFEST)
        if digest_of_files(base.files) != base.digest:
            yield f"base: the files of {MANIFEST} do not make its digest"
        if (base.digest, base.chat_template_sha256) != (
            spec.base_digest,
            spec.chat_template_sha256,
        ):
            yield f"base: {MANIFEST} is another base or template than the one that was scored"
    if (folder / TEMPLATE).exists() and sha256_of(
        folder / TEMPLATE
    ) != spec.chat_template_sha256:
        yield f"base: {TEMPLATE} is another template than the one that was scored"
