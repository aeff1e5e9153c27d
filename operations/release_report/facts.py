"""Everything that the page shows, read once."""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from operations.gate_report.fitness import fitness
from operations.gate_report.report import SCORECARD, identities_of
from operations.history import History
from operations.origin_text import describe_origin
from pipelines.gates.policy import ScreenPolicy, load_policy
from pipelines.scoring.evidence_file import Evidence, read_evidence
from pipelines.values.dataset import (
    BiasReport,
    group_prompts,
    read_rows,
    text_of,
)
from pipelines.values.evidence import Scorecard, System
from pipelines.values.verdict import Comparison

if TYPE_CHECKING:
    from flows.judgement import Judgement
    from operations.history import HistoryEntry

_OF_THE_MODEL = {"waived"}
"""Kinds of entries that name no version and count for every one of the model."""


@dataclass(frozen=True)
class Facts:
    """A judged version, with its evidence and what the ledger says of it."""

    judgement: "Judgement"
    history: History
    """Entries about the model."""
    made_at: datetime

    @property
    def subject(self) -> str:
        """The version, as a sentence begins."""
        version = self.judgement.version
        return f"Version {version.version} of {version.name}"

    @property
    def sentence(self) -> str:
        """Fit, not yet, or rejected, and by which rules."""
        return fitness(self.subject, self.judgement.verdict)

    @property
    def package(self) -> Path:
        """The version's files on this machine."""
        return self.judgement.package

    @cached_property
    def scorecard(self) -> Scorecard:
        """Every score with its interval."""
        return Scorecard.read(self.package / SCORECARD)

    @cached_property
    def evidence(self) -> Evidence:
        """Each system's answer to each prompt."""
        return read_evidence(self.package / "evidence.parquet")

    @cached_property
    def screen(self) -> ScreenPolicy:
        """The limits under which the version was screened."""
        policy = load_policy(self.package / "policy.yaml")
        return policy.gates.screen

    @cached_property
    def data_bias(self) -> BiasReport | None:
        """How groups differ in the training data; None where the package holds no report."""
        path = self.package / "bias_report.json"
        return BiasReport.read(path) if path.is_file() else None

    @cached_property
    def prompts(self) -> dict[str, str]:
        """The text of each held-out prompt by its identifier; older packages hold none."""
        path = self.package / "held_out.jsonl"
        # Without the texts the page still shows which prompts differ.
        if not path.is_file():
            return {}
        rows = read_rows(path)
        return {prompt.id: text_of(prompt.messages) for prompt in group_prompts(rows)}

    @property
    def judged_metrics(self) -> tuple[str, ...]:
        """The primary metric and every guardrail that was compared, each once."""
        compared = {comparison.metric for comparison in self.comparisons}
        names = [self.screen.primary]
        names += [guardrail.metric for guardrail in self.screen.guardrails]
        # dict.fromkeys names each once and keeps the policy's order.
        return tuple(name for name in dict.fromkeys(names) if name in compared)

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        """What `screen` compared."""
        return self.judgement.finalist.comparisons

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

    @property
    def identities(self) -> dict[str, str]:
        """Fingerprint and digests of what was judged, and of what it was judged by."""
        scorecard = self.scorecard
        return {
            **identities_of(self.judgement),
            "evidence": scorecard.evidence.sha256,
            "held-out rows": scorecard.held_out_sha256,
            "data": scorecard.dataset_digest,
        }

    @property
    def origin(self) -> tuple[str, ...]:
        """Where the version came from, and who approved it there; empty where it was made here."""
        version = self.judgement.version
        ledger_state = self.judgement.ledger_state
        # None of a version that somebody registered by hand.
        registration = ledger_state.registration(
            version.name,
            version.version,
        )
        return describe_origin(registration)

    @property
    def events(self) -> tuple["HistoryEntry", ...]:
        """The ledger's entries about this version, and waivers for its model, oldest first."""
        version = self.judgement.version.version
        # Entries about the model alone, such as the base that served, belong to no version.
        events = []
        for entry in self.history.entries:
            is_waiver = entry.version is None and entry.kind in _OF_THE_MODEL
            if entry.model is not None and (entry.version == version or is_waiver):
                events.append(entry)
        return tuple(events)


def collect_facts(
    judgement: "Judgement", history: History, made_at: datetime | None = None
) -> Facts:
    """The facts of a judgement, as of now unless another time is given."""
    return Facts(
        judgement,
        history,
        made_at or datetime.now(UTC),
    )
