"""The champion at the start of a run.

It is state from outside, so it is written into the workspace as an input before the stages run.
"""

from pathlib import Path
from typing import Literal

from core.errors import UnsafeAdapter
from core.value import Value
from pipelines import layout
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.evidence import Adapter

FOLDER = layout.CHAMPION


class Champion(Value):
    """The version that is served now, with the adapter that its digest names."""

    version: str
    adapter: Adapter


class ChampionInput(Value):
    """What `data/champion/champion.json` holds; null where there is none.

    The anchor is a fixed version, with which every candidate is compared too: otherwise the margins
    that each champion may lose would add up over many releases.
    """

    champion: Champion | None
    anchor: Champion | None = None

    def comparators(self) -> tuple[tuple[Literal["champion", "anchor"], Champion], ...]:
        """The versions to compare with, by system; the adapter is in `data/champion/SYSTEM`."""
        pairs: tuple[tuple[Literal["champion", "anchor"], Champion | None], ...] = (
            ("champion", self.champion),
            ("anchor", self.anchor),
        )
        # A first version has neither; a second one has a champion, and rarely an anchor.
        return tuple(
            (system, version) for system, version in pairs if version is not None
        )


def read_comparators(
    base: BaseModelManifest, folder: Path = FOLDER
) -> tuple[tuple[Literal["champion", "anchor"], Champion], ...]:
    """Champion and anchor that the run compares with.

    `UnsafeAdapter` where one belongs to another base model or chat template.
    """
    comparators = ChampionInput.read(folder / "champion.json").comparators()
    # Only the adapter may differ, or a difference in scores would not be the adapter's.
    expected = (base.digest, base.chat_template_sha256)
    for system, comparator in comparators:
        adapter = comparator.adapter
        if (adapter.base_digest, adapter.chat_template_sha256) != expected:
            raise UnsafeAdapter(
                f"The {system}, version {comparator.version}, has another base model or chat "
                f"template ({adapter.base_id}), which is not compared with yet. "
                "Take that base, or register under another name with --model."
            )
    return comparators
