"""A setting of a metric counts where the defaults do not apply, or a policy names it."""

from pathlib import Path

import pytest

from pipelines.gates.comparisons import compare, score_differences
from pipelines.gates.policy import Policy
from pipelines.metrics import METRICS, metric_named
from pipelines.metrics.needless import describe_needless, has_parts, needless_settings
from pipelines.scoring.evidence_file import read_evidence
from pipelines.stages.score import score
from pipelines.stages.screen import list_rules, screen
from pipelines.values.evidence import Scorecard
from pipelines.values.metric_settings import BleuSettings, MetricSettings
from pipelines.values.verdict import Finalist, Finding, Rejection, Undecided
from tests.support import trials

WORDS, SHORT = ("ls -l | wc",), ("ls",)
CHAR = BleuSettings(tokenize="char")
BOTH = BleuSettings(tokenize="char", effective_order=True)
RULE = "bleu setting"


def needless(settings: BleuSettings, *references: tuple[str, ...]) -> str | None:
    chosen = metric_named("bleu", MetricSettings(bleu=settings))
    return needless_settings(chosen, metric_named("bleu"), references)


def judged(
    folder: Path, settings: BleuSettings, policy: Policy | None = None
) -> Finalist | Rejection | Undecided:
    """A good adapter on words, counted under settings."""
    card = score(trials.trial(), trials.params(bleu=settings), 20, folder)
    evidence = read_evidence(folder / "evidence.parquet")
    limits = policy or trials.policy()
    verdict = screen(card, compare(evidence, limits.gates.screen), limits)
    rules = tuple(finding.rule for finding in verdict.findings)
    assert list_rules(card, limits) == rules
    return verdict


def found(verdict: Finalist | Rejection | Undecided, rule: str) -> list[Finding]:
    return [finding for finding in verdict.findings if finding.rule == rule]


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        (BleuSettings(), None),
        (CHAR, "tok:char"),
        (BleuSettings(tokenize="intl"), "tok:intl"),
        (BleuSettings(effective_order=True), "eff:yes"),
        (BOTH, "eff:yes|tok:char"),
    ],
)
def test_what_was_set_is_needless_where_the_defaults_apply(
    settings: BleuSettings, parts: str | None
) -> None:
    assert needless(settings, WORDS, WORDS, SHORT) == parts
    # Half of the prompts are short: the defaults say nothing, and any setting counts.
    assert needless(settings, WORDS, SHORT) is None


def test_other_metrics_have_no_needless_settings() -> None:
    assert METRICS
    for metric in METRICS:
        assert needless_settings(metric, metric_named(metric.name), [WORDS]) is None


def test_each_part_that_a_signature_must_have_is_looked_for() -> None:
    signature = "nrefs:1|eff:yes|tok:char"
    assert has_parts(signature, "tok:char")
    assert has_parts(signature, "tok:char|eff:yes")
    assert not has_parts(signature, "tok:char|eff:no")
    assert not has_parts(signature, "tok:cha")
    # A policy that pins nothing allows nothing.
    assert not has_parts(signature, "")
    assert not has_parts("", "tok:char")


def test_a_loose_tokenizer_alone_is_rejected_by_the_default_policy(
    tmp_path: Path,
) -> None:
    verdict = judged(tmp_path, CHAR)
    assert isinstance(verdict, Rejection)
    (rejected,) = [each for each in verdict.findings if each.outcome != "passed"]
    assert rejected.rule == RULE
    assert rejected.text == (
        "bleu is scored with tok:char, and its defaults apply to these references: "
        "set score.bleu.tokenize to 13a, "
        "or have the policy name tok:char in screen.signatures"
    )
    assert isinstance(judged(tmp_path, BleuSettings()), Finalist)


def test_every_needless_setting_is_named_with_its_default() -> None:
    told = describe_needless("bleu", "eff:yes|tok:char")
    assert (
        "set score.bleu.effective_order to false and score.bleu.tokenize to 13a, "
        "or have the policy name eff:yes|tok:char in screen.signatures"
    ) in told
    # Whatever a scorecard claims, there is a sentence.
    assert "set score.bleu to its defaults" in describe_needless("bleu", "x")


@pytest.mark.parametrize(
    ("pin", "refused"),
    [
        ({"bleu": "tok:char|eff:yes"}, 0),
        ({"bleu": "eff:yes|tok:char"}, 0),
        ({"bleu": "tok:char"}, 1),
        ({"bleu": "eff:yes"}, 1),
        ({"chrf": "eff:yes"}, 1),
        ({}, 1),
    ],
)
def test_a_policy_allows_the_very_settings_that_it_names(
    tmp_path: Path, pin: dict[str, str], refused: int
) -> None:
    verdict = judged(tmp_path, BOTH, trials.policy(signatures=pin))
    assert len(found(verdict, RULE)) == refused
    signatures = found(verdict, "bleu signature")
    assert all(finding.outcome == "passed" for finding in signatures)


def test_a_claim_that_a_setting_was_needed_must_follow_from_the_references(
    tmp_path: Path,
) -> None:
    card = score(trials.trial(), trials.params(bleu=CHAR), 20, tmp_path)
    evidence = read_evidence(tmp_path / "evidence.parquet")
    assert score_differences(card, evidence) == ()
    stored = card.model_dump(mode="json")
    for system in stored["systems"]:
        for metric in system["metrics"]:
            metric["needless"] = None
    forged = Scorecard.model_validate(stored)
    told = score_differences(forged, evidence)
    assert len(told) == 3
    assert all("metrics[1].needless: None stored, 'tok:char'" in each for each in told)


def test_a_setting_that_one_system_alone_needed_not_is_refused(tmp_path: Path) -> None:
    card = score(trials.trial(), trials.params(), 20, tmp_path)
    evidence = read_evidence(tmp_path / "evidence.parquet")
    policy = trials.policy()
    (system, *others) = card.systems
    metrics = [
        each.model_copy(update={"needless": "tok:char"})
        if each.name == "bleu"
        else each
        for each in system.metrics
    ]
    claimed = system.model_copy(update={"metrics": tuple(metrics)})
    other = card.model_copy(update={"systems": (claimed, *others)})
    comparisons = compare(evidence, policy.gates.screen)
    assert isinstance(screen(card, comparisons, policy), Finalist)
    assert isinstance(screen(other, comparisons, policy), Rejection)
