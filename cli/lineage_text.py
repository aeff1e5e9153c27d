"""What `assay lineage` prints: the bases, a table of versions, and what to do."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from operations.lineage import BaseLineage, HangingVersion

_TITLES = ("model", "version", "state", "aliases", "compared with", "package")
_SHOWN = 12


def lineage_lines(lineage: "BaseLineage") -> Iterator[str]:
    """Every line, in the order in which a person needs them."""
    for base in lineage.bases:
        names = ", ".join(name for name in base.names if name != base.digest)
        folder = base.folder or "not on this machine"
        yield f"base {base.digest[:_SHOWN]}  {names or 'without a name'}  {folder}"
    if not lineage.versions:
        yield "No version hangs on it."
    else:
        yield from _table([_TITLES, *(_row(each) for each in lineage.versions)])
    for compared in lineage.evidence:
        yield (
            f"Version {compared.version} of {compared.model} is on another base, and its verdict "
            f"rests on a comparison with {compared.against}, which is on this one."
        )
    # After the table: by then whoever reads it knows what hangs on the base.
    for sentence in lineage.advice:
        yield f"To do: {sentence}"
    for note in lineage.notes:
        yield f"Note: {note}"


def _row(version: "HangingVersion") -> tuple[str, ...]:
    states = ", ".join(version.states)
    # Whoever withdraws a base has to look at such a version by hand.
    if not version.agrees:
        states += ", records disagree on its base"
    package = (version.package_sha256 or "unknown")[:_SHOWN]
    if not version.has_package_here:
        package += " (not here)"
    return (
        version.model,
        version.version,
        states,
        ", ".join(version.aliases) or "-",
        ", ".join(version.compared_with) or "-",
        package,
    )


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    # A row with a cell too few would show a state below another title.
    columns = zip(*rows, strict=True)
    widths = [max(len(cell) for cell in column) for column in columns]
    for row in rows:
        cells = [
            cell.ljust(width)
            for cell, width in zip(
                row,
                widths,
                strict=True,
            )
        ]
        yield "  ".join(cells).rstrip()
