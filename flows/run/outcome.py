"""What a run came to, as its caller and its exit code see it."""

from typing import Literal

from core.value import Value
from pipelines.values.evidence import Scorecard
from pipelines.values.verdict import Finding

EXIT_CODES = {"passed": 0, "rejected": 3, "undecided": 4}


class Outcome(Value):
    """The verdict of a run, its reasons and, for a finalist, its version."""

    verdict: Literal["passed", "rejected", "undecided"]
    gate: Literal["admit", "screen"]
    findings: tuple[Finding, ...]
    scorecard: Scorecard | None
    model: str
    version: str | None
    run_id: str
    unchanged: bool = False
    note: str = ""
    """What became of the alias `challenger`, where the run registered a version."""
    is_champion: bool = False
    """The run came to the champion's own adapter: verdict, scores and version are the champion's."""

    @property
    def exit_code(self) -> int:
        """0 passed, 3 rejected, 4 undecided."""
        return EXIT_CODES[self.verdict]

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why: every rule that passed, or every one that did not."""
        return tuple(
            finding.text
            for finding in self.findings
            if finding.outcome != "passed" or self.verdict == "passed"
        )

    @property
    def word(self) -> str:
        """What it came to, for titles."""
        return "champion again" if self.is_champion else self.verdict

    @property
    def result(self) -> str:
        """Verdict and version in one sentence."""
        if self.is_champion:
            how = (
                "Nothing to do: the same work came before to"
                if self.unchanged
                else "Training came to"
            )
            what = (
                f"the adapter of {self.model} version {self.version}, which is champion"
            )
            return f"{how} {what}; nothing new was judged or registered"
        known = (
            "Nothing to do: the same data, parameters, base, code and champion were judged before. "
            if self.unchanged
            else ""
        )
        note = f", {self.note}" if self.note else ""
        where = (
            f"registered as {self.model} version {self.version}{note}"
            if self.version
            else "nothing was registered"
        )
        return f"{known}Verdict of {self.gate}: {self.verdict.upper()}; {where}"

    def machine_readable(self) -> dict[str, object]:
        """What `--json` prints, as one line."""
        return {
            "verdict": self.verdict,
            "gate": self.gate,
            "reasons": list(self.reasons),
            "scorecard": self.scorecard.model_dump(mode="json")
            if self.scorecard
            else None,
            "model": self.model,
            "version": self.version,
            "mlflow_run": self.run_id,
            "unchanged": self.unchanged,
            "is_champion": self.is_champion,
            "note": self.note,
        }
