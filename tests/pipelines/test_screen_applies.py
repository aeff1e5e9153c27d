"""Metrics that do not apply judge nothing, and nothing passes for want of them."""

import random
from collections.abc import Callable, Sequence
from itertools import combinations

import pytest

from pipelines.gates.comparisons import compare, score_differences
from pipelines.gates.policy import Policy
from pipelines.gates.screening.case import Case
from pipelines.gates.screening.guardrail_rules import check_any_guardrail
from pipelines.scoring.evidence_file import Evidence, read_evidence
from pipelines.stages.score import score, summarise
from pipelines.stages.screen import list_rules, screen
from pipelines.values.dataset import Prompt, Row
from pipelines.values.evidence import Scorecard, System, SystemScore
from pipelines.values.metric_settings import BleuSettings
from pipelines.values.params import Params
from pipelines.values.verdict import Finalist, Finding, Rejection, Undecided
from registry.mlflow.card import format_score, score_table
from tests.support import trials

BLEU_APPLIES = "bleu applies"
GLYPHS = "旧杯子放在桌上湿漉的狐狸睡着了巨大太阳升起来"
ONE_WORD = {"metric": "bleu", "margin": 1.0}
EXACT = {"metric": "exact_match", "margin": 0.02, "required": False}

Scored = tuple[Scorecard, Evidence]
Scorer = Callable[..., Scored]


def perfect(prompt: Prompt, dice: random.Random) -> str:
    return prompt.references[0]


def with_completions(texts: Sequence[str]) -> tuple[Row, ...]:
    rows = trials.rows(len(texts))
    pairs = zip(rows, texts, strict=True)
    return tuple(row.model_copy(update={"completion": text}) for row, text in pairs)


def two_words() -> tuple[Row, ...]:
    dice = random.Random(5)
    return with_completions([" ".join(dice.sample(trials.WORDS, 2)) for _ in range(60)])


def chinese() -> tuple[Row, ...]:
    dice = random.Random(6)
    return with_completions(["".join(dice.sample(GLYPHS, 9)) for _ in range(60)])


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    """Score a perfect adapter, or another, on rows under parameters."""

    def run(
        rows: Sequence[Row],
        params: Params | None = None,
        adapter: trials.Answer = perfect,
        base: trials.Answer = trials.wrong,
    ) -> Scored:
        folder = tmp_path_factory.mktemp("score")
        systems: dict[System, tuple[trials.Answer, float]] = {
            "base": (base, 4.0),
            "few_shot": (base, 3.0),
            "adapter": (adapter, 2.0),
        }
        made = trials.trial(systems, rows)
        card = score(made, params or trials.params(), 20, folder)
        return card, read_evidence(folder / "evidence.parquet")

    return run


@pytest.fixture(scope="module")
def short(scored: Scorer) -> Scored:
    """A perfect adapter on references of two words."""
    return scored(two_words())


def judged(
    scored_once: Scored, policy: Policy | None = None
) -> Finalist | Rejection | Undecided:
    card, evidence = scored_once
    limits = policy or trials.policy()
    verdict = screen(card, compare(evidence, limits.gates.screen), limits)
    rules = [finding.rule for finding in verdict.findings]
    assert list_rules(card, limits) == tuple(rules)
    return verdict


def finding(verdict: Finalist | Rejection | Undecided, rule: str) -> Finding:
    (found,) = [each for each in verdict.findings if each.rule == rule]
    return found


def with_metric(system: SystemScore, metric: str, **changes: str | None) -> SystemScore:
    metrics = [
        each.model_copy(update=changes) if each.name == metric else each
        for each in system.metrics
    ]
    return system.model_copy(update={"metrics": tuple(metrics)})


def estimate(card: Scorecard, system: System, metric: str) -> float:
    found = card.system(system)
    assert found is not None
    return found.metric(metric).interval.estimate


def test_a_perfect_adapter_on_two_words_passes_though_its_bleu_is_zero(
    short: Scored,
) -> None:
    card, _ = short
    assert estimate(card, "adapter", "bleu") == 0 < estimate(card, "base", "bleu")
    assert estimate(card, "adapter", "exact_match") == 1
    verdict = judged(short)
    assert isinstance(verdict, Finalist)
    assert finding(verdict, BLEU_APPLIES).text == (
        "bleu does not apply and does not judge: "
        "60 of 60 prompts have references with fewer than 4 tokens. "
        "Set score.bleu.effective_order to true, or let other metrics judge"
    )
    assert not any("bleu not inferior" in each.rule for each in verdict.findings)


def test_with_effective_order_bleu_judges_two_words(scored: Scorer) -> None:
    params = trials.params(bleu=BleuSettings(effective_order=True))
    verdict = judged(scored(two_words(), params))
    assert isinstance(verdict, Finalist)
    assert "better by" in finding(verdict, "bleu not inferior to base").text


def test_a_language_without_spaces_is_named_and_another_tokenizer_judges_it(
    scored: Scorer,
) -> None:
    plain = judged(scored(chinese()))
    assert isinstance(plain, Finalist)
    text = finding(plain, BLEU_APPLIES).text
    assert "60 of 60 prompts have references in a script without spaces" in text
    params = trials.params(bleu=BleuSettings(tokenize="zh"))
    cut = judged(scored(chinese(), params))
    assert isinstance(cut, Finalist)
    assert finding(cut, "bleu not inferior to base").outcome == "passed"


def test_short_answers_do_not_switch_off_the_guardrail(scored: Scorer) -> None:
    def one_word(prompt: Prompt, dice: random.Random) -> str:
        return perfect(prompt, dice).split()[0]

    card, evidence = scored(trials.rows(), adapter=one_word, base=trials.right)
    assert estimate(card, "adapter", "bleu") == 0
    verdict = judged((card, evidence))
    assert finding(verdict, "bleu not inferior to base").outcome == "rejected"


def test_where_no_guardrail_judges_nothing_passes(short: Scored) -> None:
    verdict = judged(short, trials.policy(guardrails=(ONE_WORD,)))
    # The others are scored, and this policy has no margin for them.
    assert finding(verdict, "guardrails").outcome == "undecided"
    assert "none of bleu applies and tells" in finding(verdict, "guardrails").text


def test_a_guardrail_that_cannot_tell_answers_apart_has_not_judged(
    scored: Scorer,
) -> None:
    def nearly(prompt: Prompt, dice: random.Random) -> str:
        return f"{perfect(prompt, dice)} z"

    never = scored(
        two_words(), trials.params(metrics=("chrf", "bleu", "exact_match")), nearly
    )
    policy = trials.policy(guardrails=(ONE_WORD, EXACT))
    verdict = judged(never, policy)
    assert isinstance(verdict, Undecided)
    (undecided,) = [each for each in verdict.findings if each.outcome != "passed"]
    assert undecided.rule == "guardrails"
    # Where it tells one system apart it has judged.
    told = scored(
        two_words(), trials.params(metrics=("chrf", "bleu", "exact_match")), perfect
    )
    assert isinstance(judged(told, policy), Finalist)


def test_a_guardrail_has_judged_only_against_systems_that_it_names(
    short: Scored,
) -> None:
    card, _ = short
    rail = {**EXACT, "against": ("champion",)}
    limits = trials.policy(guardrails=(ONE_WORD, rail))
    case = Case(scorecard=card, comparisons=(), gates=limits.gates)
    (found,) = check_any_guardrail(case)
    assert found.outcome == "undecided"
    rails = (ONE_WORD, {**EXACT, "against": ("champion", "base")})
    limits = trials.policy(guardrails=rails)
    case = Case(scorecard=card, comparisons=(), gates=limits.gates)
    assert list(check_any_guardrail(case)) == []


def test_a_primary_metric_that_does_not_apply_is_undecided_with_the_next_step(
    short: Scored,
) -> None:
    rails = (
        {"metric": "chrf", "margin": 1.0},
        *trials.policy().gates.screen.model_dump()["guardrails"][1:],
    )
    policy = trials.policy(primary="bleu", guardrails=rails)
    verdict = judged(short, policy)
    assert isinstance(verdict, Undecided)
    for against in ("base", "few_shot"):
        found = finding(verdict, f"bleu superior to {against}")
        assert found.outcome == "undecided"
        assert "the primary metric must apply, or have the policy" in found.text
    others = {each.outcome for each in verdict.findings if "superior" not in each.rule}
    assert others == {"passed"}


def test_a_control_that_does_not_apply_is_undecided_with_the_next_step(
    short: Scored,
) -> None:
    verdict = judged(short, trials.policy(control="bleu"))
    assert isinstance(verdict, Undecided)
    found = finding(verdict, "control")
    assert found.outcome == "undecided"
    assert "the control needs one that applies, or have the policy" in found.text


@pytest.mark.parametrize("lost", [None, "bleu", "exact_match", "bits_per_byte"])
def test_whatever_does_not_apply_only_what_applies_judges_and_something_must(
    scored: Scorer, lost: str | None
) -> None:
    card, evidence = scored(trials.rows())
    policy = trials.policy()
    comparisons = tuple(
        each.model_copy(update={"low": -90.0, "high": -80.0, "difference": -85.0})
        if each.metric == lost
        else each
        for each in compare(evidence, policy.gates.screen)
    )
    names = trials.params().score.metrics
    guardrails = set(names) - {"chrf"}
    for count in range(len(names) + 1):
        for silent in combinations(names, count):
            systems = card.systems
            for name in silent:
                systems = tuple(
                    with_metric(system, name, inapplicable="0 of 0 are long")
                    for system in systems
                )
            verdict = screen(
                card.model_copy(update={"systems": systems}), comparisons, policy
            )
            assert isinstance(verdict, Finalist) == (
                "chrf" not in silent
                and (lost is None or lost in silent)
                and not guardrails <= set(silent)
            ), silent


@pytest.mark.parametrize("note", ["60 of 60 references are short", None])
def test_a_claim_about_where_a_metric_applies_must_follow_from_the_references(
    scored: Scorer, short: Scored, note: str | None
) -> None:
    card, evidence = short if note is None else scored(trials.rows())
    assert score_differences(card, evidence) == ()
    systems = [
        with_metric(system, "bleu", inapplicable=note) for system in card.systems
    ]
    forged = card.model_copy(update={"systems": tuple(systems)})
    told = score_differences(forged, evidence)
    assert len(told) == 3
    assert all("metrics[1].inapplicable" in each for each in told)


def test_older_evidence_is_judged_as_it_was_then(short: Scored) -> None:
    card, evidence = short
    older = evidence.model_copy(update={"settings": None})
    systems = [
        with_metric(system, "bleu", inapplicable=None) for system in card.systems
    ]
    then = card.model_copy(update={"systems": tuple(systems)})
    assert score_differences(then, older) == ()
    verdict = judged((then, older))
    # A perfect adapter, whose BLEU of 0 was a loss then, if one within the margin.
    assert isinstance(verdict, Finalist)
    for against in ("base", "few_shot"):
        lost = finding(verdict, f"bleu not inferior to {against}")
        assert lost.text.startswith(f"bleu against {against}: better by -")
        assert lost.outcome == "passed"
    assert not any(each.rule == BLEU_APPLIES for each in verdict.findings)


@pytest.mark.parametrize(
    ("note", "outcome"), [(None, "passed"), ("2 of 3 references are short", "rejected")]
)
def test_a_metric_that_does_not_apply_stands_in_for_no_other(
    scored: Scorer, note: str | None, outcome: str
) -> None:
    card, evidence = scored(trials.rows())
    systems = [
        with_metric(system, "bits_per_byte", inapplicable=note)
        for system in card.systems
    ]
    systems = [
        with_metric(system, "perplexity_per_token", signature=system.system)
        for system in systems
    ]
    other = card.model_copy(update={"systems": tuple(systems)})
    verdict = judged((other, evidence))
    found = finding(verdict, "perplexity_per_token not inferior to base")
    assert found.outcome == outcome


@pytest.mark.parametrize(
    ("part", "outcome", "text"),
    [
        ("tok:13a", "passed", "bleu is computed with tok:13a, as the policy asks"),
        (
            "tok:char",
            "rejected",
            "and the policy asks for tok:char. Train again with that setting",
        ),
        ("tok:13", "rejected", "and the policy asks for tok:13."),
    ],
)
def test_a_policy_may_pin_how_a_metric_is_computed(
    scored: Scorer, part: str, outcome: str, text: str
) -> None:
    verdict = judged(scored(trials.rows()), trials.policy(signatures={"bleu": part}))
    found = finding(verdict, "bleu signature")
    assert found.outcome == verdict.verdict == outcome
    assert text in found.text


def test_a_pinned_signature_says_nothing_of_a_metric_that_was_not_scored(
    scored: Scorer,
) -> None:
    pinned = {"command_validity": "parser:bash -n"}
    params = trials.params(
        metrics=("chrf", "bleu", "perplexity_per_token", "bits_per_byte")
    )
    verdict = judged(scored(trials.rows(), params), trials.policy(signatures=pinned))
    assert isinstance(verdict, Finalist)
    assert "was not scored" in finding(verdict, "command_validity signature").text


def test_where_a_score_would_stand_a_person_reads_that_it_does_not_apply(
    short: Scored,
) -> None:
    card, _ = short
    bleu = card.systems[0].metric("bleu")
    assert format_score(bleu) == "does not apply"
    table = score_table(card)
    never = "does not apply"
    assert f"| bleu ↑ | {never} | {never} | {never} |" in table
    assert "bleu does not apply: 60 of 60 prompts have references with fewer" in table
    assert summarise(card, "bleu").startswith("bleu does not apply: 60 of 60")
    assert "does not apply" not in summarise(card, "chrf")
