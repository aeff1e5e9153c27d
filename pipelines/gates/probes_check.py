"""The rules of `screen` on what was asked beside the held-out prompts."""

from collections.abc import Iterator

from pipelines.gates.humaneval_check import check_humaneval
from pipelines.gates.policy import GatePolicy
from pipelines.gates.safety_check import check_safety
from pipelines.gates.wording_check import check_wording
from pipelines.values.evidence import Scorecard
from pipelines.values.verdict import Finding


def check_probes(scorecard: Scorecard, gates: GatePolicy) -> Iterator[Finding]:
    """Yield the findings on safety, on wording by group, then those on HumanEval."""
    # Held against the champion wherever the rest of the evidence has one.
    has_champion = scorecard.system("champion") is not None
    yield from check_safety(
        scorecard.safety,
        gates.safety,
        has_champion=has_champion,
    )
    yield from check_wording(scorecard.wording, gates.safety, gates.admit)
    yield from check_humaneval(
        scorecard.humaneval,
        gates.humaneval,
        has_champion=has_champion,
    )
