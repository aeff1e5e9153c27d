"""Whether enough answers were drawn for each prompt, where a model is scored as it samples."""

from collections.abc import Iterator

from pipelines.gates.policy import ScreenPolicy
from pipelines.values.evidence import Scorecard
from pipelines.values.verdict import Finding

RULE = "samples"


def check_samples(scorecard: Scorecard, policy: ScreenPolicy) -> Iterator[Finding]:
    """Yield one finding where answers were sampled; none where they are greedy."""
    drawn = scorecard.sampled_as
    if drawn is None:
        return
    text = (
        f"Scores are means of {drawn.samples} answers to each prompt at temperature "
        f"{drawn.temperature:g}, the policy asks for {policy.min_samples}"
    )
    if drawn.samples >= policy.min_samples:
        yield Finding(rule=RULE, outcome="passed", text=text)
        return
    # More samples may decide: it is no proof against the adapter.
    yield Finding(
        rule=RULE,
        outcome="undecided",
        text=f"{text}. Raise generation.samples",
    )
