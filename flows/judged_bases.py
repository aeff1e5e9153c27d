"""On which base champion and anchor were trained, by the ledger and the anchor's own package.

Evidence names the base of what it compares with. Whoever wrote it by hand could have had the
champion answer on a base that it was never trained on, where it is easy to beat.
"""

from collections.abc import Iterator
from pathlib import Path

from pipelines.values.champion import ChampionInput
from pipelines.values.evidence import Adapter, Scorecard
from registry.ledger.state import ModelState

# Digest of the base, and of its chat template, None in completion mode.
_Base = tuple[str, str | None]


def base_differences(
    package: Path,
    model: ModelState,
    anchor: Adapter | None,
) -> Iterator[str]:
    """Comparators of a package whose base is not the one that they were released on.

    Of an adapter that neither the ledger nor the anchor knows, only the candidate's own base is
    taken: nobody can tell on which other one it belongs.
    """
    scored = Scorecard.read(package / "scorecard.json")
    known = _known_bases(model, anchor)
    comparators = ChampionInput.read(package / "champion.json").comparators()
    for system, comparator in comparators:
        adapter = comparator.adapter
        expected = known.get(adapter.sha256, _base_of(scored.adapter))
        # The template counts as well: under another one it answers otherwise.
        if _base_of(adapter) != expected:
            yield (
                f"champion.json: the {system} is said to be on base {adapter.base_digest[:12]}, "
                f"and {expected[0][:12]} is its base, or it has another chat template there"
            )


def _known_bases(
    model: ModelState,
    anchor: Adapter | None,
) -> dict[str, _Base]:
    """The base of each adapter that was released, and of the anchor."""
    known: dict[str, _Base] = {}
    if anchor is not None:
        known[anchor.sha256] = _base_of(anchor)
    # Last: the ledger's word counts more than a package that an alias names.
    for recorded in model.once_served:
        spec = recorded.release.spec
        if spec.adapter_sha256 is not None:
            known[spec.adapter_sha256] = (spec.base_digest, spec.chat_template_sha256)
    return known


def _base_of(adapter: Adapter) -> _Base:
    return adapter.base_digest, adapter.chat_template_sha256
