"""The outcome of a run, as its caller and its exit code see it."""

from typing import Literal

from core.value import Value
from pipelines.values.evidence import Scorecard
from pipelines.values.verdict import EXIT_CODES, Finding


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
    """The run made the champion's own adapter: verdict, scores and version are the champion's."""
    is_scored_again: bool = False
    """The champion was scored under other code than its own run: verdict and scores are new."""

    @property
    def exit_code(self) -> int:
        """0 passed, 3 rejected, 4 undecided."""
        return EXIT_CODES[self.verdict]

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why: every rule of a verdict that passed, else every rule that did not pass."""
        if self.verdict == "passed":
            return tuple(finding.text for finding in self.findings)
        # Of a refusal the rules that passed are no reason.
        failed = [each for each in self.findings if each.outcome != "passed"]
        return tuple(finding.text for finding in failed)

    @property
    def word(self) -> str:
        """The outcome in a word or two, for titles."""
        if self.is_champion:
            return "champion again"
        return self.verdict

    @property
    def result(self) -> str:
        """Verdict and version in one sentence, without its full stop."""
        if self.is_champion:
            return self._champion_result
        # A person who repeats a command must see that nothing new was computed.
        beginning = ""
        if self.unchanged:
            beginning = (
                "Nothing to do: the same data, parameters, base, code and champion "
                "were judged before. "
            )
        version = "nothing was registered"
        if self.version:
            note = f", {self.note}" if self.note else ""
            version = f"registered as {self.model} version {self.version}{note}"
        return f"{beginning}Verdict of {self.gate}: {self.verdict.upper()}; {version}"

    @property
    def _champion_result(self) -> str:
        how = "Training came to"
        if self.is_scored_again:
            return (
                f"{how} the adapter of {self.model} version {self.version}, which is champion, and "
                f"the code that scores is another: scored again, {self.verdict.upper()}; "
                "nothing new was registered"
            )
        if self.unchanged:
            how = "Nothing to do: the same work came before to"
        return (
            f"{how} the adapter of {self.model} version {self.version}, which is champion; "
            "nothing new was judged or registered"
        )

    def machine_readable(self) -> dict[str, object]:
        """What `--json` prints, as one line."""
        card = self.scorecard
        return {
            "verdict": self.verdict,
            "gate": self.gate,
            "reasons": list(self.reasons),
            "scorecard": None if card is None else card.model_dump(mode="json"),
            "model": self.model,
            "version": self.version,
            "mlflow_run": self.run_id,
            "unchanged": self.unchanged,
            "is_champion": self.is_champion,
            "is_scored_again": self.is_scored_again,
            "note": self.note,
        }
