"""What may be served, checked before it is loaded: a base model's folder, and an adapter's package.

A package is what a registered version holds: `adapter/` with the weights, `adapter.json` (their
record), `verdict.json`, `known_answers.jsonl`, `chat_template.jinja`, the evidence, and
`package.json` with the digest of every other file.
"""

from dataclasses import dataclass
from pathlib import Path

from core.errors import DamagedFile, ServingError, UnusableBaseModel
from core.files import digest_of_files, sha256_of
from pipelines.models.adapter_files import check_adapter, check_kinds
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.evidence import Adapter
from pipelines.values.verdict import Finalist, read_screen_verdict
from registry.release.known_answers import FILE as KNOWN_ANSWERS
from registry.release.known_answers import KnownAnswer, read_known_answers
from registry.release.package_signature import package_digests
from registry.release.stored_files import changes_since_packing

WEIGHTS = "adapter"
RECORD = "adapter.json"
VERDICT = "verdict.json"
TEMPLATE = "chat_template.jinja"
# transformers looks for files of these kinds by itself: one that is not in the manifest could
# change what is loaded.
_LOADED_KINDS = {".json", ".safetensors", ".jinja", ".txt", ".model", ".py", ".bin"}


@dataclass(frozen=True)
class Package:
    """A registered adapter that may be served: only `open_package` makes one."""

    folder: Path
    adapter: Adapter
    verdict: Finalist
    known_answers: tuple[KnownAnswer, ...]
    # What the ledger knows it by.
    sha256: str

    @property
    def adapter_folder(self) -> Path:
        """The weights, as peft reads them."""
        return self.folder / WEIGHTS


def open_package(folder: Path, base: BaseModelManifest) -> Package:
    """Check everything in `folder` against its record, its verdict and `base`.

    `DamagedFile` where bytes differ, `UnsafeAdapter` where they must not be loaded,
    `ServingError` where no verdict allows to serve them.
    """
    if not folder.is_dir():
        raise ServingError(
            f"There is no package {folder}. "
            "Give the folder of a registered version with --package."
        )
    # Kinds of files before anything of them is opened: some kinds run code when they are read, and
    # a link may lead anywhere.
    check_kinds(folder, recorded=None)
    adapter = Adapter.read(folder / RECORD)
    recorded = {f"{WEIGHTS}/{name}" for name in adapter.files}
    check_kinds(folder, recorded=recorded)
    digests = _check_digests(folder)
    check_adapter(folder / WEIGHTS, adapter, base)
    return Package(
        folder=folder,
        adapter=adapter,
        verdict=_read_passing_verdict(folder / VERDICT, adapter),
        known_answers=read_known_answers(folder / KNOWN_ANSWERS),
        sha256=digest_of_files(digests),
    )


def check_base(folder: Path, base: BaseModelManifest) -> None:
    """Return only if the base model's files are those of the manifest.

    `DamagedFile` where one differs, or where another file beside them would be loaded.
    """
    if digest_of_files(base.files) != base.digest:
        raise DamagedFile(
            f"The manifest of {base.id} names files that do not make its digest "
            f"{base.digest[:12]}. Make it again."
        )
    for name, expected in base.files.items():
        path = folder / name
        if not _is_file_with(path, name, expected):
            raise DamagedFile(
                f"{path} is not the file that the manifest of {base.id} records. "
                "Bring it back."
            )
    # A manifest without files has no folder.
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        if path.suffix in _LOADED_KINDS and path.name not in base.files:
            raise DamagedFile(
                f"{path} is not in the manifest of {base.id} and could change what is "
                "loaded. Remove it."
            )


def read_chat_template(
    base: BaseModelManifest, folders: tuple[Path, ...]
) -> str | None:
    """The template that the manifest records, from the first folder that holds it.

    None is completion mode. `UnusableBaseModel` where no folder holds that template.
    """
    expected = base.chat_template_sha256
    if expected is None:
        return None
    for folder in folders:
        path = folder / TEMPLATE
        if path.is_file() and sha256_of(path) == expected:
            return path.read_text(encoding="utf-8")
    places = ", ".join(str(folder) for folder in folders)
    raise UnusableBaseModel(
        f"None of {places} holds the {TEMPLATE} that the manifest of {base.id} records "
        f"({expected[:12]}). Put it beside the manifest."
    )


def _is_file_with(path: Path, name: str, expected: str) -> bool:
    """Whether the file has that digest. A name with a folder in it points somewhere else."""
    if Path(name).name != name:
        return False
    if not path.is_file():
        return False
    return sha256_of(path) == expected


def _check_digests(folder: Path) -> dict[str, str]:
    """The digests of all files, if each is the one that was packed, and no other was added."""
    digests = package_digests(folder)
    for name, fact in changes_since_packing(folder, digests):
        raise DamagedFile(f"{folder / name} {fact}. Fetch the package again.")
    return digests


def _read_passing_verdict(path: Path, adapter: Adapter) -> Finalist:
    verdict = read_screen_verdict(path)
    if not isinstance(verdict, Finalist):
        raise ServingError(
            f"{path} says {verdict.verdict}: {verdict.findings[0].text} "
            "Only what passed is served."
        )
    # The verdict's word alone is not enough: a file that was edited would have it changed first.
    if any(finding.outcome != "passed" for finding in verdict.findings):
        raise ServingError(
            f"{path} says passed, but not every one of its findings does. "
            "Run `assay gate` on its evidence."
        )
    is_same_adapter = verdict.adapter.sha256 == adapter.sha256
    is_same_base = verdict.adapter.base_digest == adapter.base_digest
    if not (is_same_adapter and is_same_base):
        raise ServingError(
            f"{path} judges adapter {verdict.adapter.sha256[:12]}, "
            f"not {adapter.sha256[:12]}. Fetch the package again."
        )
    return verdict
