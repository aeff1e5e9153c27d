"""The champion as the run found it: outside state, written into the workspace as an input before the stages run."""

from pathlib import Path

from pipelines.evidence import Adapter
from pipelines.value import Value

FOLDER = Path("data/champion")


class Champion(Value):
    """The version that is served now, with the adapter that its digest names (its files lie in `data/champion/adapter`)."""

    version: str
    adapter: Adapter


class ChampionInput(Value):
    """What `data/champion/champion.json` holds; null where nothing is served yet."""

    champion: Champion | None


def read_champion(folder: Path = FOLDER) -> Champion | None:
    """The champion that the run compares with, or None."""
    return ChampionInput.read(folder / "champion.json").champion
