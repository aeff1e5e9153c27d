"""The champion as the run found it: outside state, written into the workspace as an input before the stages run."""

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

    The anchor is a fixed version: every candidate is held against it too, so that the champion's margins cannot add up over many releases.
    """

    champion: Champion | None
    anchor: Champion | None = None

    def comparators(self) -> tuple[tuple[Literal["champion", "anchor"], Champion], ...]:
        """What there is, by the name of its system; its adapter lies in `data/champion/NAME`."""
        pairs: tuple[tuple[Literal["champion", "anchor"], Champion | None], ...] = (
            ("champion", self.champion),
            ("anchor", self.anchor),
        )
        return tuple(
            (system, comparator)
            for system, comparator in pairs
            if comparator is not None
        )


def read_comparators(
    base: BaseModelManifest, folder: Path = FOLDER
) -> tuple[tuple[Literal["champion", "anchor"], Champion], ...]:
    """Champion and anchor that the run compares with; one that stands on another base or template cannot be answered for."""
    comparators = ChampionInput.read(folder / "champion.json").comparators()
    for system, comparator in comparators:
        if (
            comparator.adapter.base_digest,
            comparator.adapter.chat_template_sha256,
        ) != (base.digest, base.chat_template_sha256):
            raise UnsafeAdapter(
                f"The {system}, version {comparator.version}, stands on another base model or chat template "
                f"({comparator.adapter.base_id}), which is not compared with yet. Take that base, or register under another name with --model."
            )
    return comparators
