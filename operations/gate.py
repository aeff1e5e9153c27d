"""`assay gate`: compute a verdict again, from stored evidence."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from core.environment import set_library_environment
from core.errors import UnreadableData
from core.project import find_project, find_root
from core.settings import Settings
from pipelines.values.verdict import EXIT_CODES
from registry.release.recompute import recompute, recompute_admission

if TYPE_CHECKING:
    from pipelines.values.verdict import Admission, Finalist, Rejection, Undecided
    from serving.regenerate import RegenerationReport


@dataclass(frozen=True)
class GateRerun:
    """The recomputed verdict, what the stored files say otherwise, and the answers given again."""

    verdict: "Admission | Finalist | Rejection | Undecided"
    differences: tuple[str, ...]
    regenerated: "RegenerationReport | None" = None

    @property
    def exit_code(self) -> int:
        """The verdict's exit code; 1 where stored and recomputed differ."""
        if self.differences:
            return 1
        return EXIT_CODES[self.verdict.verdict]


def rerun_gate(
    folder: Path, policy: Path | None, *, prompts_to_regenerate: int | None = None
) -> GateRerun:
    """Judge the evidence in `folder` again and compare the verdict with the stored one.

    With `prompts_to_regenerate`, the folder's own adapter answers so many drawn prompts again,
    and these answers are compared too. `UnreadableData` where the folder does not hold a run's
    artifacts.
    """
    if not folder.is_dir():
        raise UnreadableData(
            f"There is no folder {folder}. Give a run's downloaded artifacts: "
            "scorecard, evidence, policy and verdict."
        )
    _check_kinds(folder)
    # A run that was refused before training has no scorecard: it ended at `admit`.
    is_scored = (folder / "scorecard.json").is_file()
    if is_scored:
        # Files of own metrics are taken from the project alone.
        recomputed = recompute(folder, policy, find_root(Path.cwd()))
    else:
        recomputed = recompute_admission(folder, policy)
    differences = recomputed.differences
    if policy is not None:
        # Another policy asks what its verdict would have been: that one may differ.
        differences = tuple(
            difference
            for difference in differences
            if not difference.startswith("verdict")
        )
    if prompts_to_regenerate is None:
        return GateRerun(recomputed.verdict, differences)
    regenerated = _regenerate(folder, prompts_to_regenerate)
    if not regenerated.is_enough:
        differences += (f"regenerated: {regenerated.text}",)
    return GateRerun(recomputed.verdict, differences, regenerated)


def _check_kinds(folder: Path) -> None:
    """Refuse what is neither file nor folder: reading a pipe would never end."""
    for path in folder.rglob("*"):
        if path.exists() and not path.is_file() and not path.is_dir():
            raise UnreadableData(
                f"{path} is no file. Give a run's downloaded artifacts."
            )


def _regenerate(folder: Path, count: int) -> "RegenerationReport":
    """Have the adapter answer again; loading the weights takes a while."""
    set_library_environment()
    # After the settings above: libraries read them when they are imported.
    from serving.regenerate import regenerate

    return regenerate(folder, count, find_project(Settings().home).home)
