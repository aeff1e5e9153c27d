"""How champion and anchor have to have answered, by the ledger and the anchor's own package.

Evidence names base, precision and engine of what it compares with. Whoever wrote it by hand could
have had the champion answer on a base that it was never trained on, where it is easy to beat, or in
another precision or engine than its users get.

One digest may stand for several systems: the same prompt, or the same weights of another tool, may
be released on two bases. So a comparator is found by its version first.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from pipelines.engines import TRANSFORMERS
from pipelines.values.champion import Champion, ChampionInput
from pipelines.values.evidence import Adapter, Scorecard
from registry.ledger.state import ModelState

# Digest of the base, and of its chat template, None in completion mode.
_Base = tuple[str, str | None]


class _Released(NamedTuple):
    """What the ledger says of one release."""

    version: str
    adapter_sha256: str | None
    base: _Base
    precision: str
    engine: str


def base_differences(
    package: Path,
    model: ModelState,
    anchor: Adapter | None,
) -> Iterator[str]:
    """Comparators of a package whose base, precision or engine is not that of their release.

    Of an adapter that neither the ledger nor the anchor knows, only the candidate's own base is
    taken: nobody can tell on which other one it belongs.
    """
    scorecard = Scorecard.read(package / "scorecard.json")
    scored = scorecard.adapter
    releases = _releases_of(model)
    comparators = ChampionInput.read(package / "champion.json").comparators()
    for system, comparator in comparators:
        adapter = comparator.adapter
        released = _releases_with(comparator, releases)
        known = _known_bases(comparator, released, anchor)
        # An easier base would let anything win.
        expected = known or [_base_of(scored)]
        # The template counts as well: under another one it answers otherwise.
        if _base_of(adapter) not in expected:
            yield (
                f"champion.json: the {system} is said to be on base {adapter.base_digest[:12]}, "
                f"and {expected[0][0][:12]} is its base, or it has another chat template there"
            )
        answered_in = (
            comparator.precision or scorecard.spec.precision,
            comparator.engine.name if comparator.engine else scorecard.spec.engine,
        )
        released_in = [(each.precision, each.engine) for each in released]
        if released and answered_in not in released_in:
            yield (
                f"champion.json: the {system} answered in {_describe(*answered_in)}, and was "
                f"released in {_describe(*released_in[0])}"
            )
    # The candidate may be the anchor itself.
    compared = [scored, *(comparator.adapter for _, comparator in comparators)]
    yield from _anchor_differences(compared, anchor)


def _anchor_differences(
    compared: Sequence[Adapter], anchor: Adapter | None
) -> Iterator[str]:
    """Where the anchor's bytes were scored, and only on other bases than the anchor's."""
    if anchor is None:
        return
    same_bytes = [each for each in compared if each.sha256 == anchor.sha256]
    bases = [_base_of(each) for each in same_bytes]
    # That nothing of these bytes was scored is another rule's finding.
    if bases and _base_of(anchor) not in bases:
        yield (
            f"champion.json: the anchor is on base {anchor.base_digest[:12]}, or has another chat "
            f"template, and its bytes were scored on {bases[0][0][:12]} alone"
        )


def _releases_with(
    comparator: Champion, releases: Sequence[_Released]
) -> list[_Released]:
    """Those of that version, else of its bytes under other numbers; empty: not known."""
    sha256 = comparator.adapter.sha256
    same_bytes = [each for each in releases if each.adapter_sha256 == sha256]
    itself = [each for each in same_bytes if each.version == comparator.version]
    # Another installation has other numbers for the same bytes.
    return itself or same_bytes


def _known_bases(
    comparator: Champion,
    released: Sequence[_Released],
    anchor: Adapter | None,
) -> list[_Base]:
    """The bases that it was released on, else the anchor's; empty: not known."""
    sha256 = comparator.adapter.sha256
    # Last: the ledger's word counts more than a package that an alias names.
    if not released and anchor is not None and anchor.sha256 == sha256:
        return [_base_of(anchor)]
    return [each.base for each in released]


def _releases_of(model: ModelState) -> tuple[_Released, ...]:
    # Also what was taken back: it may still be the anchor.
    releases = [recorded.release for recorded in model.once_served]
    return tuple(
        _Released(
            release.version,
            release.spec.adapter_sha256,
            (release.spec.base_digest, release.spec.chat_template_sha256),
            release.spec.precision,
            release.spec.engine,
        )
        for release in releases
    )


def _describe(precision: str, engine: str) -> str:
    return precision if engine == TRANSFORMERS else f"{precision} by {engine}"


def _base_of(adapter: Adapter) -> _Base:
    return adapter.base_digest, adapter.chat_template_sha256
