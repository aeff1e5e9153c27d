"""`assay lineage --base X`: what hangs on a base model, for whoever has to withdraw it.

A base may have to go: its licence changed, its weights were found to be poisoned, its vendor
withdrew it. Its adapters are worth nothing without it.
"""

from collections.abc import Iterator
from pathlib import Path

from core.environment import set_library_environment
from core.errors import ParameterError
from core.project import Project, find_project
from core.settings import Settings
from core.value import Value
from flows.run.model_files import model_names, read_model_file
from operations.base_records import (
    BaseRecords,
    VersionKey,
    aliases_of,
    collect_base_records,
    digest_of_folder,
)
from operations.lineage_advice import list_advice
from registry.ledger.state import ModelState

_FEWEST_DIGITS = 6
_SHOWN = 12


class KnownBase(Value):
    """A base model by its bytes, and where they are."""

    digest: str
    names: tuple[str, ...]
    folder: str | None


class HangingVersion(Value):
    """A version whose adapter needs the base."""

    model: str
    version: str
    base_digest: str
    states: tuple[str, ...]
    aliases: tuple[str, ...]
    package_sha256: str | None
    has_package_here: bool
    compared_with: tuple[str, ...]
    """What its evidence was compared with."""
    agrees: bool
    """False where records name other bases of it, too."""


class ComparedVersion(Value):
    """A version on another base, whose evidence compares with an adapter of this one."""

    model: str
    version: str
    against: str


class BaseLineage(Value):
    """Everything that hangs on what was asked for."""

    asked: str
    bases: tuple[KnownBase, ...]
    versions: tuple[HangingVersion, ...]
    evidence: tuple[ComparedVersion, ...]
    trained_by: tuple[str, ...]
    """Files of models that the next run trains on it."""
    advice: tuple[str, ...]
    notes: tuple[str, ...]


def find_lineage(asked: str) -> BaseLineage:
    """What hangs on a base in this project: by identifier, revision, digest or folder.

    `ParameterError` where no version names such a base, or several bases begin with those digits;
    `LedgerError` where the ledger cannot be read.
    """
    set_library_environment()
    return lineage_of(find_project(Settings().home), asked)


def lineage_of(
    project: Project,
    asked: str,
) -> BaseLineage:
    """As `find_lineage`, in a project."""
    records = collect_base_records(project)
    digests = _resolve(asked, records)
    # Any record is enough: where records disagree, the version may hang on it, too.
    hanging = {version for version, known in records.digests.items() if known & digests}
    aliases = aliases_of(records, hanging)
    versions = tuple(
        _describe(
            project.home,
            records,
            version,
            digests,
            aliases.get(version, ()),
        )
        for version in sorted(hanging, key=_by_number)
    )
    bases = tuple(
        KnownBase(
            digest=digest,
            names=tuple(sorted(records.names.get(digest, ()))),
            folder=_folder_of(project.home, digest),
        )
        for digest in sorted(digests)
    )
    # Of what trains next no record of a version knows yet.
    trained_by = tuple(_trained_by(project, bases))
    return BaseLineage(
        asked=asked,
        bases=bases,
        versions=versions,
        evidence=tuple(
            _evidence(
                records,
                hanging,
                digests,
            )
        ),
        trained_by=trained_by,
        advice=tuple(list_advice(records, hanging, trained_by)),
        notes=(*records.notes, *_unknown(records)),
    )


def _resolve(
    asked: str,
    records: BaseRecords,
) -> set[str]:
    """The digests that somebody means; several where a name stands for several bases."""
    folder = Path(asked).expanduser()
    # Any other folder may have the name of a base by chance.
    if (folder / "config.json").is_file():
        return {digest_of_folder(folder)}
    # One identifier may stand for several revisions, each with bytes of its own.
    named = {digest for digest, names in records.names.items() if asked in names}
    if named or asked in records.names:
        return named | ({asked} & records.names.keys())
    # People copy digests out of tables, which show their beginning.
    begins = [digest for digest in records.names if digest.startswith(asked)]
    is_long_enough = len(asked) >= _FEWEST_DIGITS
    if is_long_enough and len(begins) == 1:
        return set(begins)
    known = ", ".join(sorted(_title(records, digest) for digest in records.names))
    if is_long_enough and begins:
        raise ParameterError(
            f"{len(begins)} base models begin with {asked}. Give more digits: {known}."
        )
    raise ParameterError(
        f"No version hangs on a base model {asked!r}. Give a folder, or one of: {known or 'none'}."
    )


def _title(
    records: BaseRecords,
    digest: str,
) -> str:
    names = sorted(records.names[digest] - {digest})
    return " ".join([*names[:1], digest[:_SHOWN]])


def _by_number(version: VersionKey) -> tuple[str, int, str]:
    name, number = version
    # As a number: version 10 comes after version 9.
    return name, int(number) if number.isdigit() else 0, number


def _folder_of(
    home: Path,
    digest: str,
) -> str | None:
    # The folder may be gone since it was linked: a dead link leads to no weights.
    link = home / "base-models" / digest
    return str(link.resolve()) if link.is_dir() else None


def _describe(
    home: Path,
    records: BaseRecords,
    version: VersionKey,
    digests: set[str],
    aliases: tuple[str, ...],
) -> HangingVersion:
    name, number = version
    package = records.packages.get(version)
    known = records.digests[version]
    compared = records.compared.get(package or "", [])
    return HangingVersion(
        model=name,
        version=number,
        base_digest=min(known & digests),
        states=tuple(_states(records.model(name), number)) or ("registered",),
        aliases=aliases,
        package_sha256=package,
        has_package_here=package is not None and (home / "packages" / package).is_dir(),
        compared_with=tuple(against for against, _ in compared),
        agrees=len(known) == 1,
    )


def _states(
    model: ModelState,
    number: str,
) -> Iterator[str]:
    """What the ledger says of a version, the most urgent first."""
    current = model.current
    is_current = current is not None and current.release.version == number
    if is_current:
        yield "its base serves" if model.serves_base else "serves"
    if model.pending is not None and model.pending.release.version == number:
        yield "is being released"
    if model.wish is not None and model.wish.version == number:
        yield "is asked for"
    if model.before is not None and model.before.release.version == number:
        yield "a rollback leads here"
    if number in model.revoked:
        yield "revoked"
    once = {recorded.release.version for recorded in model.once_served}
    if number in once and not is_current:
        yield "served once"


def _evidence(
    records: BaseRecords,
    hanging: set[VersionKey],
    digests: set[str],
) -> Iterator[ComparedVersion]:
    """Verdicts on other bases that rest on a comparison with this one."""
    for version, package in sorted(records.packages.items()):
        # It goes together with the base: its verdict needs no other warning.
        if version in hanging:
            continue
        for against, digest in records.compared.get(package, []):
            if digest in digests:
                yield ComparedVersion(
                    model=version[0],
                    version=version[1],
                    against=against,
                )


def _trained_by(
    project: Project,
    bases: tuple[KnownBase, ...],
) -> Iterator[str]:
    """Files in `models/` whose base is one of these folders."""
    folders = {base.folder for base in bases if base.folder is not None}
    for name in model_names(project.root):
        file = read_model_file(project.root, name)
        if file is None or file.base_model is None:
            continue
        # As a run reads it: a path in such a file counts from the project's root.
        path = project.root / file.base_model.expanduser()
        if str(path.resolve()) in folders:
            yield f"models/{name}.yaml"


def _unknown(records: BaseRecords) -> Iterator[str]:
    """Versions of which no record names the base."""
    # Said and not left out: each of them may hang on the base that has to go.
    unknown = sorted(records.packages.keys() - records.digests.keys(), key=_by_number)
    if unknown:
        names = ", ".join(f"{name} {number}" for name, number in unknown)
        yield (
            f"Of {names} no record names the base: their packages are not on this machine. "
            "Restore MLflow from a backup to know it."
        )
