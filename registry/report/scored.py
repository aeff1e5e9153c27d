"""A folder of evidence as its page shows it, read once."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pipelines.gates.policy import Policy, ScreenPolicy, load_policy
from pipelines.scoring.evidence_table import EvidenceTable
from pipelines.values.dataset import BiasReport, group_prompts, read_rows, text_of
from pipelines.values.evidence import Scorecard, System
from pipelines.values.verdict import (
    Comparison,
    Finalist,
    Rejection,
    Undecided,
    read_screen_verdict,
)

SCORECARD, EVIDENCE = "scorecard.json", "evidence.parquet"


@dataclass(frozen=True)
class Scored:
    """What `score` and `screen` left in a folder: of a run, or in a version's package."""

    folder: Path
    subject: str
    """Whom the page is about, as its title says it."""
    called: str = "the candidate"
    """How the page speaks of whoever answered."""

    @cached_property
    def scorecard(self) -> Scorecard:
        """Every score with its interval."""
        return Scorecard.read(self.folder / SCORECARD)

    def check(self) -> None:
        """`DamagedFile` where the evidence is not the one that the scorecard names."""
        named = self.scorecard.evidence
        # By its name here: the run that scored it had it elsewhere.
        here = named.model_copy(update={"path": EVIDENCE})
        here.checked(self.folder)

    @cached_property
    def evidence(self) -> EvidenceTable:
        """Each system's answer to each prompt."""
        return EvidenceTable(self.folder / EVIDENCE)

    @cached_property
    def policy(self) -> Policy:
        """The limits under which it was screened."""
        return load_policy(self.folder / "policy.yaml")

    @property
    def screen(self) -> ScreenPolicy:
        """Those of the gate `screen`."""
        return self.policy.gates.screen

    @cached_property
    def verdict(self) -> Finalist | Rejection | Undecided:
        """What `screen` answered."""
        return read_screen_verdict(self.folder / "verdict.json")

    @cached_property
    def data_bias(self) -> BiasReport | None:
        """How groups differ in the training data; None where the folder holds no report."""
        path = self.folder / "bias_report.json"
        return BiasReport.read(path) if path.is_file() else None

    @cached_property
    def prompts(self) -> dict[str, str]:
        """The text of each held-out prompt by its identifier; older packages hold none."""
        path = self.folder / "held_out.jsonl"
        # Without the texts the page still shows which prompts differ.
        if not path.is_file():
            return {}
        rows = read_rows(path)
        return {prompt.id: text_of(prompt.messages) for prompt in group_prompts(rows)}

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        """What `screen` compared."""
        return self.verdict.comparisons

    @property
    def judged_metrics(self) -> tuple[str, ...]:
        """The primary metric and every guardrail that was compared, each once."""
        compared = {comparison.metric for comparison in self.comparisons}
        names = [self.screen.primary]
        names += [guardrail.metric for guardrail in self.screen.guardrails]
        # dict.fromkeys names each once and keeps the policy's order.
        return tuple(name for name in dict.fromkeys(names) if name in compared)

    def comparison(self, metric: str, against: System) -> Comparison | None:
        """The stored comparison with one system; None where the two are not comparable."""
        for comparison in self.comparisons:
            pair = (comparison.metric, comparison.against)
            if pair == (metric, against):
                return comparison
        return None

    def margin(self, metric: str) -> float | None:
        """How much of a guardrail may be lost; None of the primary metric, which must gain."""
        for guardrail in self.screen.guardrails:
            # The primary metric may be a guardrail as well, and has to gain all the same.
            if guardrail.metric == metric != self.screen.primary:
                return guardrail.margin
        return None
