"""What the signals of a canary say: each in its own unit, and none of them about too little."""

import random

import pytest

from pipelines.values.canary import CanaryLimits
from registry.release.canary_counts import Side, SideCounts, no_counts
from registry.release.canary_signals import (
    FEEDBACK,
    SIGNALS,
    SignalFinding,
    decide,
    describe_findings,
    find_signals,
)
from serving.endpoint.feedback import Ratings
from serving.endpoint.tally import Tally
from serving.feedback_schema import Rating
from tests.support.canaries import PROSE, counts, plan, report


def answers(**fields: object) -> dict[str, str]:
    findings = find_signals(plan(), report(7, 9, **fields))
    return {finding.signal: finding.answer for finding in findings}


def test_every_limit_of_a_policy_is_a_signal() -> None:
    names = {*SIGNALS["canary"], FEEDBACK, "memory_mb"}
    assert names == set(CanaryLimits.model_fields)
    assert set(SIGNALS["bake"]) < names


def test_nothing_counted_shows_nothing() -> None:
    said = answers(candidate=no_counts(), baseline=no_counts(), replay="running")
    # Ratings may be few, so that they never have to be waited for.
    assert said.pop(FEEDBACK) == "fine"
    assert set(said.values()) == {"open"}


def test_one_side_alone_shows_nothing_good() -> None:
    assert "open" in answers(candidate=no_counts()).values()
    assert "open" in answers(baseline=no_counts()).values()


def test_both_sides_alike_are_fine() -> None:
    assert set(answers().values()) == {"fine"}


def test_a_signal_is_open_until_each_of_its_edges_is_shown() -> None:
    # 60 answers show the times and not yet that errors are as seldom.
    said = answers(candidate=counts(60), baseline=counts(60))
    assert (said["errors"], said["latency"]) == ("open", "fine")


def test_failures_are_no_answers() -> None:
    alike = counts(1000, errors=10)
    said = answers(candidate=alike, baseline=alike)
    assert set(said.values()) == {"fine"}
    only_errors = answers(candidate=counts(0, errors=300))
    assert only_errors["errors"] == "worse"
    assert only_errors["latency"] == "open"


@pytest.mark.parametrize("seconds", [0.05, 0.1, 0.4, 2.0, 50.0])
def test_three_times_the_time_passes_an_edge_wherever_it_lies(seconds: float) -> None:
    said = answers(
        candidate=counts(100, seconds=3 * seconds), baseline=counts(seconds=seconds)
    )
    assert said["latency"] == said["first_token"] == "worse"


@pytest.mark.parametrize("seconds", [0.05, 0.0801, 0.16, 0.31, 3.0])
@pytest.mark.parametrize("slower", [1.1, 1.3, 1.41])
def test_a_little_more_time_is_not_slower_though_it_passes_an_edge(
    seconds: float, slower: float
) -> None:
    said = answers(
        candidate=counts(1000, seconds=slower * seconds),
        baseline=counts(1000, seconds=seconds),
    )
    assert said["latency"] == said["first_token"] == "fine"


def test_answers_may_be_neither_much_longer_nor_much_shorter() -> None:
    for text in (PROSE * 5, "Yes, indeed."):
        assert answers(candidate=counts(text=text))["length"] == "worse"
    assert answers(candidate=counts(text=PROSE[:-4]))["length"] == "fine"


def test_one_that_is_worse_aborts_whatever_the_others_say() -> None:
    fine = SignalFinding("errors", "fine", "a")
    open_one = SignalFinding("latency", "open", "b")
    worse = SignalFinding("length", "worse", "c")
    assert decide((fine, open_one, worse)) == "abort"
    assert decide((fine, open_one)) == "wait"
    assert decide((fine,)) == "continue"
    # No finding at all is no reason to continue.
    assert decide(()) == "wait"
    assert describe_findings((fine, worse, worse), "worse") == "c; c"


def test_memory_is_compared_in_megabytes_at_its_limit() -> None:
    grown = {memory: counts(memory=memory) for memory in (522.0, 522.1)}
    said = {memory: answers(candidate=side)["memory"] for memory, side in grown.items()}
    assert said == {522.0: "fine", 522.1: "worse"}
    assert answers(baseline=counts(memory=None))["memory"] == "open"


@pytest.mark.parametrize(
    ("candidate", "baseline", "answer"),
    [
        ((0, 0), (0, 0), "fine"),
        ((500, 500), (0, 0), "fine"),
        ((0, 0), (500, 500), "fine"),
        ((1, 1), (500, 0), "fine"),
        ((40, 12), (40, 8), "fine"),
        ((500, 100), (500, 100), "fine"),
        ((5, 5), (50, 0), "worse"),
        ((300, 150), (300, 30), "worse"),
    ],
)
@pytest.mark.parametrize("stage", ["canary", "bake"])
def test_ratings_can_end_a_release_and_never_hold_it_up(
    candidate: tuple[int, int], baseline: tuple[int, int], answer: str, stage: str
) -> None:
    said = answers(candidate=rated(*candidate), baseline=rated(*baseline), stage=stage)
    assert said.pop(FEEDBACK) == answer
    assert set(said.values()) == {"fine"}


def rated(raters: int, negative: int) -> SideCounts:
    """A side of which so many clients said something."""
    return counts().model_copy(update={"raters": raters, "feedback": negative})


def test_a_policy_may_leave_ratings_out() -> None:
    limits = CanaryLimits(feedback=None)
    said = report(7, 9, candidate=rated(500, 500), baseline=rated(500, 0))
    findings = find_signals(plan(limits=limits), said)
    assert decide(findings) == "continue"
    assert decide(find_signals(plan(), said)) == "abort"


def test_what_ratings_say_names_both_sides() -> None:
    said = report(7, 9, candidate=rated(20, 20), baseline=rated(50, 5))
    assert describe_findings(find_signals(plan(), said), "worse") == (
        "negative feedback in 100.0% of 20 against 10.0% of 50 of the baseline"
        " (limit 10 points)"
    )


def test_answers_that_were_scored_are_given_again_in_each_step() -> None:
    said = {
        replay: answers(replay=replay)["replay"]
        for replay in ("same", "running", "other")
    }
    assert said == {"same": "fine", "running": "open", "other": "worse"}


class Simulated:
    """A canary that is looked at after every twenty answers of each side."""

    def __init__(
        self,
        seed: int,
        *,
        slower: float = 1.0,
        failing: float = 0.02,
        disliked: float = 0.2,
    ) -> None:
        self._chance = random.Random(seed)
        self._ratings, self._disliked = Ratings(), disliked
        self._slower, self._failing = slower, failing

    def run(self, most: int = 2000) -> tuple[str, int]:
        """What it came to, after how many answers of each side."""
        candidate, baseline = Tally(), Tally()
        for answered in range(20, most, 20):
            for _ in range(20):
                self._answer(candidate, self._slower, self._failing)
                self._answer(baseline, 1.0, 0.02)
                self._rate("candidate", self._disliked)
                self._rate("baseline", 0.2)
            sides = {
                "candidate": self._ratings.added_to(candidate.freeze(0.0), "candidate"),
                "baseline": self._ratings.added_to(baseline.freeze(0.0), "baseline"),
            }
            verdict = decide(find_signals(plan(), report(7, 9, **sides)))
            if verdict != "wait":
                return verdict, answered
        return "wait", most

    def _answer(self, tally: Tally, slower: float, failing: float) -> None:
        if self._chance.random() < failing:
            tally.add_error()
            return
        words = self._chance.randrange(3, 40)
        refuses = self._chance.random() < 0.03
        text = " ".join(self._word() for _ in range(words))
        tally.add_answer("I'm sorry, I cannot help." if refuses else f"{text}.")
        seconds = self._chance.lognormvariate(-1.5, 0.6)
        tally.add_times(slower * seconds, slower * seconds / 4)

    def _rate(self, side: Side, disliked: float) -> None:
        """Every third answer is rated, by one of many clients."""
        if self._chance.random() < 1 / 3:
            client = str(self._chance.randrange(2000))
            score = -1 if self._chance.random() < disliked else 1
            self._ratings.count(side, client, Rating(id="a", score=score))

    def _word(self) -> str:
        return self._chance.choice(PROSE.split())


def test_a_few_canaries_of_equals_all_continue() -> None:
    outcomes = [Simulated(seed).run() for seed in range(3)]
    assert {verdict for verdict, _ in outcomes} == {"continue"}


def test_a_few_seeded_bad_candidates_are_all_aborted() -> None:
    slow = [Simulated(seed, slower=3.0).run() for seed in range(2)]
    failing = [Simulated(seed, failing=0.3).run() for seed in range(2)]
    disliked = [Simulated(seed, disliked=0.8).run() for seed in range(2)]
    verdicts = {verdict for verdict, _ in (*slow, *failing, *disliked)}
    assert verdicts == {"abort"}


@pytest.mark.slow
def test_a_thousand_canaries_of_equals_are_aborted_as_seldom_as_the_level_says() -> (
    None
):
    outcomes = [Simulated(seed).run() for seed in range(1000)]
    aborted = sum(verdict == "abort" for verdict, _ in outcomes)
    answered = sorted(count for _, count in outcomes)
    # On average an equal candidate needs a few hundred answers of each side.
    assert answered[500] < 500
    assert aborted <= 50
