"""Equal but cheaper: quality within a margin and a lower cost, where the policy says so before."""

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from core.errors import IncompleteEvidence
from core.value import FileDigest
from pipelines.gates.cheaper import CheaperPolicy, check_saving
from pipelines.gates.comparisons import COMPARATORS
from pipelines.gates.confirmation import find_confirmed, margin_on_block
from pipelines.gates.policy import Policy
from pipelines.gates.what_passes import describe_power
from pipelines.metrics import ScoredRow, metric_named
from pipelines.scoring.evidence_file import read_evidence
from pipelines.scoring.signatures import is_comparable
from pipelines.stages.score import build_evidence, score
from pipelines.stages.screen import screen_evidence
from pipelines.values.dataset import Interval, Prompt
from pipelines.values.evidence import Completion, System
from pipelines.values.metric_settings import MetricSettings
from pipelines.values.reserve import Block, Confirmation
from pipelines.values.trial import SystemAnswers
from pipelines.values.verdict import Comparison, Finalist, Rejection, Undecided
from tests.support import trials

COST = "tokens_per_answer"
BYTES = "adapter_bytes"
CHEAPER = {"cost": COST, "saving": 0.2, "margin": 1.0}
SMALLER = {**CHEAPER, "cost": BYTES}
Costs = Mapping[System, int]


def exact(prompt: Prompt, _: random.Random) -> str:
    """The reference with one word lost in every third answer: the same for whoever is asked."""
    words = prompt.references[0].split()
    return " ".join(words[1:] if int(prompt.id, 16) % 3 == 0 else words)


def counted(answers: SystemAnswers, tokens: int) -> SystemAnswers:
    """The answers with a prompt of about so many tokens each."""

    def count(place: int, answer: Completion) -> Completion:
        return answer.model_copy(update={"prompt_tokens": tokens + place % 3})

    rows = [count(place, answer) for place, answer in enumerate(answers.answers)]
    # As many bytes, so that either cost can decide.
    sized = answers.completions.model_copy(update={"adapter_bytes": tokens})
    return answers.model_copy(update={"answers": tuple(rows), "completions": sized})


def screened(
    folder: Path,
    costs: Costs,
    champion: trials.Answer = exact,
    policy: Policy | None = None,
) -> Finalist | Rejection | Undecided:
    """The verdict on an adapter with the champion's quality, and these costs."""
    systems: dict[System, tuple[trials.Answer, float]] = {
        "base": (trials.wrong, 4.0),
        "few_shot": (trials.wrong, 3.0),
        "adapter": (exact, 2.0),
        "champion": (champion, 2.0),
    }
    trial = trials.trial(systems)
    answers = [counted(each, costs.get(each.system, 60)) for each in trial.systems]
    asked = policy or trials.policy(cheaper=CHEAPER)
    cheaper = asked.gates.screen.cheaper
    cost = COST if cheaper is None else cheaper.cost
    metrics = (*trials.params().score.metrics, cost)
    folder.mkdir(exist_ok=True)
    card = score(
        trial.model_copy(update={"systems": tuple(answers)}),
        trials.params(metrics=metrics),
        20,
        folder,
    )
    card = card.model_copy(
        update={"bias": trials.bias(Interval(estimate=1, low=0, high=3))}
    )
    return screen_evidence(card, read_evidence(folder / "evidence.parquet"), asked)


def outcomes(verdict: Finalist | Rejection | Undecided) -> dict[str, str]:
    return {finding.rule: finding.outcome for finding in verdict.findings}


def test_what_is_equal_and_takes_fewer_tokens_passes(tmp_path: Path) -> None:
    verdict = screened(tmp_path, {"adapter": 20, "champion": 60})
    found = outcomes(verdict)
    assert found["chrf not inferior to champion"] == "passed"
    assert found[f"{COST} superior to champion"] == "passed"
    # Whoever is not named by the policy has to be beaten in quality.
    assert {"chrf superior to base", "chrf superior to few_shot"} <= set(found)
    assert "chrf superior to champion" not in found
    assert isinstance(verdict, Finalist), [
        each.text for each in verdict.findings if each.outcome != "passed"
    ]


def test_what_is_equal_and_costs_the_same_is_rejected(tmp_path: Path) -> None:
    verdict = screened(tmp_path, {"adapter": 60, "champion": 60})
    assert outcomes(verdict)[f"{COST} superior to champion"] == "rejected"
    assert isinstance(verdict, Rejection)


@pytest.mark.ci
@pytest.mark.parametrize(
    ("size", "outcome"), [(48, "passed"), (49, "rejected"), (60, "rejected")]
)
def test_what_is_equal_passes_where_its_adapter_is_smaller_by_the_policys_share(
    tmp_path: Path, size: int, outcome: str
) -> None:
    policy = trials.policy(cheaper=SMALLER)
    verdict = screened(tmp_path, {"adapter": size, "champion": 60}, policy=policy)
    found = {finding.rule: finding for finding in verdict.findings}
    saving = found[f"{BYTES} superior to champion"]
    # Sizes are no sample: the bounds are the difference itself.
    assert saving.outcome == outcome, saving.text
    assert (
        f"lower by {60 - size} of 60, bounds {60 - size} to {60 - size}" in saving.text
    )
    assert isinstance(verdict, Finalist) == (outcome == "passed")
    evidence = read_evidence(tmp_path / "evidence.parquet")
    assert evidence.rows["adapter"][0].row.adapter_bytes == size
    assert describe_power(evidence, policy.gates.screen)


def test_fewer_tokens_of_another_base_are_no_saving() -> None:
    trial = trials.trial({"adapter": (exact, 2.0), "champion": (exact, 2.0)})
    systems = tuple(counted(answers, 20) for answers in trial.systems)
    metric = metric_named(COST)
    counted_trial = trial.model_copy(update={"systems": systems})
    evidence = build_evidence(counted_trial, [metric], MetricSettings())
    assert is_comparable(evidence, metric, "champion")
    other = evidence.made_by["champion"].model_copy(update={"base_digest": "9" * 64})
    made_by = {**evidence.made_by, "champion": other}
    on_two_bases = evidence.model_copy(update={"made_by": made_by})
    assert not is_comparable(on_two_bases, metric, "champion")


def test_what_is_cheap_and_worse_is_refused(tmp_path: Path) -> None:
    def perfect(prompt: Prompt, _: random.Random) -> str:
        return prompt.references[0]

    verdict = screened(tmp_path, {"adapter": 1, "champion": 60}, perfect)
    found = outcomes(verdict)
    assert found[f"{COST} superior to champion"] == "passed"
    assert found["chrf not inferior to champion"] == "rejected"
    assert isinstance(verdict, Rejection)


def test_a_policy_that_says_nothing_of_cost_wants_better_quality(
    tmp_path: Path,
) -> None:
    guardrails = [
        *(each.model_dump() for each in trials.policy().gates.screen.guardrails),
        {"metric": COST, "margin": 100.0},
    ]
    verdict = screened(
        tmp_path,
        {"adapter": 20, "champion": 60},
        policy=trials.policy(guardrails=guardrails),
    )
    assert outcomes(verdict)["chrf superior to champion"] != "passed"


def comparison(difference: float, low: float, high: float) -> Comparison:
    return Comparison(
        metric=COST,
        against="champion",
        difference=difference,
        low=low,
        high=high,
        standard_error=1.0,
        clusters=40,
    )


@pytest.mark.parametrize(
    ("numbers", "other", "outcome"),
    [
        ((20.0, 15.0, 25.0), 100.0, "passed"),
        ((20.0, 0.0, 40.0), 100.0, "undecided"),
        ((19.9, 15.0, 25.0), 100.0, "undecided"),
        ((10.0, 5.0, 19.9), 100.0, "rejected"),
        ((10.0, 5.0, 20.0), 100.0, "undecided"),
        ((-5.0, -9.0, -1.0), 100.0, "rejected"),
        # What costs nothing leaves nothing to save.
        ((0.0, 0.0, 0.0), 0.0, "undecided"),
        ((1.0, 0.5, 2.0), 0.0, "undecided"),
    ],
)
def test_a_saving_passes_only_where_it_is_shown_and_large_enough(
    numbers: tuple[float, float, float], other: float, outcome: str
) -> None:
    policy = CheaperPolicy.model_validate(CHEAPER)
    cost = Interval(estimate=other, low=other, high=other)
    assert check_saving(comparison(*numbers), cost, policy).outcome == outcome


def test_a_cost_that_nobody_scored_is_rejected() -> None:
    policy = CheaperPolicy.model_validate(CHEAPER)
    cost = Interval(estimate=1, low=1, high=1)
    for missing in (
        check_saving(None, cost, policy),
        check_saving(comparison(20, 15, 25), None, policy),
    ):
        assert missing.outcome == "rejected"
        assert "Put it into score.metrics" in missing.text


def test_tokens_may_be_saved_against_prompts_as_well() -> None:
    wide = {**CHEAPER, "than": ["champion", "few_shot"]}
    asked = trials.policy(cheaper=wide).gates.screen.cheaper
    assert asked is not None
    assert asked.than == ("champion", "few_shot")


def test_a_loss_that_is_worth_no_release_may_be_allowed_for_a_lower_cost() -> None:
    smallest = trials.policy().gates.screen.smallest_effect
    policy = trials.policy(cheaper={**CHEAPER, "margin": smallest}).gates.screen
    assert policy.cheaper is not None
    assert policy.cheaper.margin == smallest
    assert {each for each in COMPARATORS if policy.may_be_equal_to(each)} == {
        *policy.cheaper.than
    }


@pytest.mark.parametrize(
    "wrong",
    [
        {"cheaper": {**CHEAPER, "margin": 2.1}},
        {"cheaper": {**CHEAPER, "margin": 0}},
        {"cheaper": {**CHEAPER, "margin": float("nan")}},
        {"cheaper": {**CHEAPER, "saving": 0}},
        {"cheaper": {**CHEAPER, "saving": 1}},
        {"cheaper": {**CHEAPER, "than": []}},
        {"cheaper": {**CHEAPER, "than": ["base"]}},
        {"cheaper": {**CHEAPER, "than": ["champion", "champion"]}},
        {"cheaper": {**CHEAPER, "cost": "chrf"}},
        {"cheaper": {**SMALLER, "than": ["champion", "few_shot"]}},
        {"cheaper": {**SMALLER, "than": ["retrieval"]}},
        {"primary": BYTES, "smallest_effect": 50},
        {"cheaper": True},
        {"primary": COST, "smallest_effect": 50},
    ],
)
def test_a_policy_that_would_let_a_loss_or_no_saving_pass_does_not_load(
    wrong: dict[str, Any],
) -> None:
    with pytest.raises(ValidationError):
        trials.policy(**wrong)


def test_an_answer_whose_tokens_nobody_counted_has_no_cost() -> None:
    metric = metric_named(COST)
    row = ScoredRow(prompt_id="a", prediction="x", references=("x",), tokens=7)
    assert metric.row_statistics(row) == (7.0, 1.0)
    with pytest.raises(IncompleteEvidence, match="Nobody counted"):
        metric.row_statistics(row.model_copy(update={"tokens": None}))
    with pytest.raises(ValidationError):
        ScoredRow(prompt_id="a", prediction="x", references=("x",), tokens=-1)


def test_an_adapter_that_nobody_measured_has_no_size() -> None:
    metric = metric_named(BYTES)
    row = ScoredRow(prompt_id="a", prediction="x", references=("x",), adapter_bytes=0)
    assert metric.row_statistics(row) == (0.0, 1.0)
    with pytest.raises(IncompleteEvidence, match="Nobody measured"):
        metric.row_statistics(row.model_copy(update={"adapter_bytes": None}))


@pytest.mark.parametrize(
    ("low", "margin", "outcome"),
    [
        (0.1, 0.0, "passed"),
        (0.0, 0.0, "undecided"),
        (-0.9, 1.0, "passed"),
        (-1.0, 1.0, "undecided"),
    ],
)
def test_a_block_confirms_that_quality_is_kept(
    low: float, margin: float, outcome: str
) -> None:
    block = Block(
        number=1,
        level=0.02,
        groups=("0" * 32,),
        rows_sha256="0" * 64,
        against="champion",
        margin=margin,
    )
    found = comparison(low + 1, low, low + 2)
    file = FileDigest(path="x", sha256="0" * 64)
    finding = find_confirmed(
        Confirmation(block=block, comparison=found, rows=file, evidence=file)
    )
    assert finding.outcome == outcome
    assert ("allows a loss under 1" in finding.text) == (margin == 1.0)


def test_the_margin_of_a_block_is_the_policys_and_of_named_systems_alone() -> None:
    cheaper = trials.policy(cheaper=CHEAPER).gates.screen
    assert margin_on_block(cheaper, "champion") == 1.0
    assert margin_on_block(cheaper, "few_shot") == 0.0
    assert margin_on_block(trials.policy().gates.screen, "champion") == 0.0


def test_what_could_be_shown_is_said_of_the_rules_that_the_policy_has() -> None:
    systems: dict[System, tuple[trials.Answer, float]] = {
        "base": (trials.wrong, 4.0),
        "few_shot": (trials.wrong, 3.0),
        "adapter": (trials.right, 2.0),
        "champion": (trials.right, 2.1),
    }
    evidence = trials.evidence(trials.trial(systems))
    usual = describe_power(evidence, trials.policy().gates.screen)
    kept = describe_power(evidence, trials.policy(cheaper=CHEAPER).gates.screen)
    # As many comparisons, of which one asks for less.
    assert usual[0].split(":")[0] == kept[0].split(":")[0]
    assert usual != kept
