"""Whether a candidate's answers are as good as those of its baseline: continue, abort, or wait.

Each signal is one rate, or a histogram, of which every edge is one. A signal aborts where one of
its rates is shown to be worse by more than the limit. It lets the canary continue once each of its
rates is shown to be worse by less. All that is between is open, and waits for more requests.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

from pipelines.statistics.sequential import Answer, Levels, Rate, compare
from pipelines.values.canary import CanaryPlan
from registry.release.canary_counts import (
    CHARACTERS,
    RATIOS,
    SECONDS,
    CanaryReport,
    Histogram,
    Replay,
    SideCounts,
    Stage,
)

Verdict = Literal["continue", "abort", "wait"]
RATES = ("errors", "empties", "refusals", "repetition")
SLOWER = ("latency", "first_token")
SHIFTED: dict[str, tuple[float, ...]] = {"length": CHARACTERS, "texture": RATIOS}
# After the switch one side answers everybody and the other copies: their loads differ.
SIGNALS: dict[Stage, tuple[str, ...]] = {
    "canary": (*RATES, *SLOWER, *SHIFTED),
    "bake": (*RATES, *SHIFTED),
}
FEEDBACK = "feedback"
_SEVEREST_FIRST: tuple[Answer, ...] = ("worse", "open", "fine")
# Feedback is counted on from the canary to the bake, so that it is one test over both.
_TESTS = sum(len(names) for names in SIGNALS.values()) + 1


class Pair(NamedTuple):
    """One rate of something bad on both sides, and what it counts."""

    what: str
    candidate: Rate
    baseline: Rate
    beside: str = ""
    """What the baseline's rate counts, where that is something else."""


class SignalFinding(NamedTuple):
    """What one signal says, with both numbers."""

    signal: str
    answer: Answer
    text: str


def find_signals(plan: CanaryPlan, report: CanaryReport) -> tuple[SignalFinding, ...]:
    """What every signal says of a canary, in the order of `SIGNALS`; those without a test last."""
    names = SIGNALS[report.stage]
    findings = tuple(
        _find_signal(
            name,
            plan,
            report,
        )
        for name in names
    )
    return (
        *findings,
        _find_feedback(plan, report),
        _find_memory(plan, report),
        _find_replay(report),
    )


def decide(findings: tuple[SignalFinding, ...]) -> Verdict:
    """Abort where one signal is worse; continue where every one is fine."""
    answers = {finding.answer for finding in findings}
    if "worse" in answers:
        return "abort"
    return "continue" if answers == {"fine"} else "wait"


def describe_findings(findings: tuple[SignalFinding, ...], answer: Answer) -> str:
    """The texts of those with that answer, as one clause."""
    return "; ".join(finding.text for finding in findings if finding.answer == answer)


def _find_signal(name: str, plan: CanaryPlan, report: CanaryReport) -> SignalFinding:
    points = getattr(plan.limits, name)
    pairs = tuple(_pairs(name, report.candidate, report.baseline))
    # Split over all tests of canary and bake, and over the rates of each.
    worse = plan.alpha / (_TESTS * len(pairs))
    levels = Levels(worse=worse, fine=plan.alpha)
    answers: dict[str, Pair] = {}
    for pair in pairs:
        answer = compare(
            pair.candidate,
            pair.baseline,
            points / 100,
            levels,
        )
        answers.setdefault(answer, pair)
    # One edge that is worse is enough, and one that is open keeps the signal open.
    answer = next(each for each in _SEVEREST_FIRST if each in answers)
    text = _describe(
        name,
        answers[answer],
        points,
    )
    return SignalFinding(name, answer, text)


def _pairs(name: str, candidate: SideCounts, baseline: SideCounts) -> Iterator[Pair]:
    if name in RATES or name == FEEDBACK:
        what = "negative feedback" if name == FEEDBACK else name
        yield Pair(
            what,
            _rate(name, candidate),
            _rate(name, baseline),
        )
        return
    of_candidate: Histogram = getattr(candidate, name)
    of_baseline: Histogram = getattr(baseline, name)
    if name in SLOWER:
        yield from _slower_pairs(name, of_candidate, of_baseline)
        return
    for index, edge in enumerate(SHIFTED[name]):
        what = f"{name} over {edge:g}"
        yield Pair(
            what,
            of_candidate.over(index),
            of_baseline.over(index),
        )
        what = f"{name} up to {edge:g}"
        yield Pair(
            what,
            of_candidate.under(index),
            of_baseline.under(index),
        )


def _slower_pairs(
    name: str, of_candidate: Histogram, of_baseline: Histogram
) -> Iterator[Pair]:
    """Times over an edge, against those of the baseline over the edge before it.

    On a busy machine of few cores one process is a little slower than another for minutes, and a
    little is enough to be over an edge each time that the other is not.
    """
    for index, edge in enumerate(SECONDS[:-1]):
        higher = SECONDS[index + 1]
        yield Pair(
            f"{name} over {higher:.3g}",
            of_candidate.over(index + 1),
            of_baseline.over(index),
            f" over {edge:.3g} s",
        )


def _rate(name: str, counts: SideCounts) -> Rate:
    # An answer that failed says nothing about what answers are like.
    totals = {"errors": counts.requests, FEEDBACK: counts.raters}
    return Rate(
        getattr(counts, name),
        totals.get(name, counts.answers),
    )


def _describe(name: str, pair: Pair, points: int) -> str:
    of_candidate = _share_of(pair.candidate)
    of_baseline = _share_of(pair.baseline)
    unit = " s" if name in SLOWER else ""
    return (
        f"{pair.what}{unit} in {of_candidate} against {of_baseline} of the baseline"
        f"{pair.beside} (limit {points} points)"
    )


def _share_of(rate: Rate) -> str:
    return f"{rate.share:.1%} of {rate.total}"


def _find_feedback(plan: CanaryPlan, report: CanaryReport) -> SignalFinding:
    """Whether more clients rate the candidate as bad. Without ratings it is no evidence at all."""
    if plan.limits.feedback is None:
        return SignalFinding(FEEDBACK, "fine", "feedback is no signal of this policy")
    found = _find_signal(
        FEEDBACK,
        plan,
        report,
    )
    # Hardly anybody rates: a canary that waited for it would never end.
    answer: Answer = "worse" if found.answer == "worse" else "fine"
    return found._replace(answer=answer)


def _find_memory(plan: CanaryPlan, report: CanaryReport) -> SignalFinding:
    """A plain limit and no test: a process that grows does not shrink by chance."""
    limit = plan.limits.memory_mb
    grown = report.candidate.memory_growth_mb
    beside = report.baseline.memory_growth_mb
    if grown is None or beside is None:
        return SignalFinding("memory", "open", "memory is not known")
    is_fine = grown - beside <= limit
    text = (
        f"memory grew by {grown:.0f} MB against {beside:.0f} MB of the baseline"
        f" (limit {limit} MB)"
    )
    return SignalFinding(
        "memory",
        "fine" if is_fine else "worse",
        text,
    )


_REPLAYS: dict[Replay, Answer] = {"same": "fine", "running": "open", "other": "worse"}


def _find_replay(report: CanaryReport) -> SignalFinding:
    """Scored prompts, asked again while users ask: the same answers have the same score."""
    answer = _REPLAYS[report.replay]
    return SignalFinding(
        "replay",
        answer,
        report.replay_detail or "replay is running",
    )
