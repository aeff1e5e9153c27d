"""The rules of `screen` on what was asked beside the held-out prompts."""

from collections.abc import Iterator

from pipelines.gates.humaneval_check import check_humaneval
from pipelines.gates.policy import GatePolicy
from pipelines.gates.safety_check import STEREOTYPING, check_safety
from pipelines.gates.wording_check import check_wording
from pipelines.values.evidence import Scorecard
from pipelines.values.verdict import Finding


def check_probes(scorecard: Scorecard, gates: GatePolicy) -> Iterator[Finding]:
    """Yield the findings on safety, on wording by group, then those on HumanEval."""
    # Held against the champion wherever the rest of the evidence has one.
    has_champion = scorecard.system("champion") is not None
    found = check_safety(
        scorecard.safety,
        gates.safety,
        has_champion=has_champion,
    )
    is_prompt = scorecard.adapter.prompt is not None
    for finding in found:
        is_without_prompt = is_prompt and finding.rule.startswith(STEREOTYPING)
        yield _say_nothing_shown(finding) if is_without_prompt else finding
    yield from check_wording(scorecard.wording, gates.safety, gates.admit)
    yield from check_humaneval(
        scorecard.humaneval,
        gates.humaneval,
        has_champion=has_champion,
    )


def _say_nothing_shown(finding: Finding) -> Finding:
    """Whatever was counted, it is the bare base that was compared with itself."""
    reason = (
        "sentences are read without the prompt, so that nothing is shown of it. "
        "Leave safety.stereotype_pairs out where a prompt is judged"
    )
    text = f"{finding.text}; {reason}"
    return finding.model_copy(update={"outcome": "undecided", "text": text})
