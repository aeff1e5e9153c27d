"""The champion at the start of a run.

It is state from outside, so it is written into the workspace as an input before the stages run.
"""

from pathlib import Path
from typing import Literal

from pydantic import Field

from core.value import Value
from pipelines import layout
from pipelines.values.engine_name import InstalledEngine
from pipelines.values.evidence import Adapter
from pipelines.values.params import GenerationParams
from pipelines.values.precision import Precision

FOLDER = layout.CHAMPION


class Champion(Value):
    """The version that is served now, with the adapter that its digest names."""

    version: str
    adapter: Adapter
    # Left out where it is the run's own: such a run has the keys that it had before.
    precision: Precision | None = Field(
        default=None, exclude_if=lambda precision: precision is None
    )
    engine: InstalledEngine | None = Field(
        default=None, exclude_if=lambda engine: engine is None
    )

    def as_served(self, params: GenerationParams) -> GenerationParams:
        """The run's way to answer, in the precision and the engine that its users get."""
        changes: dict[str, str] = {}
        if self.precision is not None:
            changes["precision"] = self.precision
        if self.engine is not None:
            changes["engine"] = self.engine.name
        return params.model_copy(update=changes)


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
    folder: Path = FOLDER,
) -> tuple[tuple[Literal["champion", "anchor"], Champion], ...]:
    """Champion and anchor that the run compares with, each on the base of its own training."""
    return ChampionInput.read(folder / "champion.json").comparators()
