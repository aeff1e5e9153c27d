"""Which stages the installed code would run again: what it is against what the last run ran."""

from importlib.metadata import version
from pathlib import Path

from core.git import git
from core.project import read_marker
from core.value import Value
from flows.run.recorded_code import recorded_codes
from pipelines import layout
from pipelines.__main__ import STAGES
from pipelines.engines import TRANSFORMERS
from pipelines.stage_code import StageCode, changes_between, read_stage_code
from pipelines.values.engine_name import ENGINE_NAMES, EngineName

_RUNS = "refs/assay/runs/*/done"
_OWN = (f"{layout.OWN_METRICS.as_posix()}/", f"{layout.SAFETY.as_posix()}/")
# Of a repository with several projects, the newest runs may be another project's.
_MOST_RUNS = 50
# A block is opened once: its stage is never repeated.
_REPEATED = tuple(stage for stage in STAGES if stage != "confirm")


class ChangedStage(Value):
    """A stage whose code is another than at the last run, and what differs."""

    stage: str
    changes: tuple[str, ...]


def find_older_files(root: Path) -> str | None:
    """One sentence where the project's files are of another Assay than the installed one."""
    written = read_marker(root).get("assay", {}).get("version")
    installed = version("assay")
    # A clone of Assay itself has no such line: git brings its files.
    if written is None or written == installed:
        return None
    return (
        f"The project's files are of Assay {written}, and {installed} is installed: "
        "`assay upgrade` shows what it would change."
    )


class CodeChange(Value):
    """What the installed code would repeat of the last run; nothing where no stage changed."""

    run: str
    stages: tuple[ChangedStage, ...]

    @property
    def text(self) -> str:
        """One sentence; empty where nothing would be repeated."""
        if not self.stages:
            return ""
        names = ", ".join(each.stage for each in self.stages)
        first = self.stages[0].changes[0]
        return (
            f"The next run repeats {names}, and what follows from other results of these: "
            f"their code is not that of run {self.run} ({first})."
        )


def find_code_change(root: Path) -> CodeChange | None:
    """Compare with the last run of the project; None where it has none."""
    listing = git(
        root,
        "for-each-ref",
        "--sort=-refname",
        f"--count={_MOST_RUNS}",
        "--format=%(refname)",
        _RUNS,
        check=False,
    )
    for ref in listing.split():
        codes = recorded_codes(root, ref)
        if codes:
            return CodeChange(run=ref.split("/")[3], stages=_changed(root, codes))
    return None


def _changed(root: Path, codes: dict[str, StageCode]) -> tuple[ChangedStage, ...]:
    found = []
    for stage in _REPEATED:
        before = codes.get(stage)
        # A stage that is new was not run then.
        changes = ["it is new"]
        if before is not None:
            # Its own metrics as they were named then: a metric that is named only now is
            # a change of parameters, which the next run sees by itself.
            own = [name for name in before.files if name.startswith(_OWN)]
            changes = changes_between(before, _read_now(stage, root, own, before))
        if changes:
            found.append(ChangedStage(stage=stage, changes=tuple(changes)))
    return tuple(found)


def _read_now(stage: str, root: Path, own: list[str], before: StageCode) -> StageCode:
    # One that is gone is a difference, and no error: nothing is run here.
    there = [name for name in own if (root / name).is_file()]
    engine: EngineName = TRANSFORMERS
    for name in ENGINE_NAMES:
        # transformers loads the model for each of the others.
        if name != TRANSFORMERS and name in before.libraries:
            engine = name
    return read_stage_code(stage, root, there, engine)
