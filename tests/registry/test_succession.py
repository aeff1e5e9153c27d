"""A finalist replaces a challenger only by beating it on the prompts that both answered."""

import pytest

from core.value import FileDigest
from pipelines.metrics import metric_named
from pipelines.scoring.evidence_file import Evidence
from pipelines.scoring.scores import system_scores
from pipelines.stages.score import build_evidence
from pipelines.values.evidence import Scorecard, System
from pipelines.values.metric_settings import BleuSettings, MetricSettings
from registry.release.succession import against_challenger, beats
from tests.support import trials


@pytest.fixture(scope="module")
def own() -> Evidence:
    """The adapter is right, base and few-shot base are wrong."""
    return trials.evidence()


def with_adapter_of(evidence: Evidence, system: System) -> Evidence:
    """A challenger whose adapter answered what that system answered."""
    adapter = [
        row.model_copy(update={"system": "adapter"}) for row in evidence.rows[system]
    ]
    return Evidence(rows={**evidence.rows, "adapter": tuple(adapter)})


def card(evidence: Evidence) -> Scorecard:
    return Scorecard(
        dataset_digest="0" * 64,
        held_out_sha256="0" * 64,
        adapter=trials.adapter(),
        spec=trials.spec(),
        prompts=len(evidence.groups),
        clusters=len(set(evidence.groups)),
        systems=system_scores(
            evidence,
            [metric_named(name) for name in evidence.metrics],
            trials.RESAMPLING,
        ),
        evidence=FileDigest(path="evidence.parquet", sha256="0" * 64),
        resampling=trials.RESAMPLING,
        bias=trials.bias(),
    )


def test_a_finalist_that_is_better_beats_the_challenger(own: Evidence) -> None:
    findings = against_challenger(
        card(own), own, with_adapter_of(own, "base"), trials.policy()
    )
    assert beats(findings), [
        finding.text for finding in findings if finding.outcome != "passed"
    ]
    assert "chrf superior to champion" in {finding.rule for finding in findings}


def test_an_equal_finalist_does_not(own: Evidence) -> None:
    assert not beats(against_challenger(card(own), own, own, trials.policy()))


def test_a_worse_finalist_does_not(own: Evidence) -> None:
    worse = with_adapter_of(own, "base")
    assert not beats(against_challenger(card(worse), worse, own, trials.policy()))


def test_without_a_prompt_in_common_nothing_is_shown(own: Evidence) -> None:
    def renamed(evidence: Evidence) -> Evidence:
        rows = {
            system: tuple(
                row.model_copy(
                    update={
                        "row": row.row.model_copy(
                            update={"prompt_id": f"other-{row.row.prompt_id}"}
                        )
                    }
                )
                for row in same
            )
            for system, same in evidence.rows.items()
        }
        return Evidence(rows=rows)

    findings = against_challenger(
        card(own), own, renamed(with_adapter_of(own, "base")), trials.policy()
    )
    assert [finding.outcome for finding in findings] == ["undecided"]
    assert not beats(findings)


def test_too_few_prompts_in_common_are_too_few_clusters(own: Evidence) -> None:
    challenger = with_adapter_of(own, "base")
    few = Evidence(rows={system: same[:5] for system, same in challenger.rows.items()})
    findings = {
        finding.rule: finding.outcome
        for finding in against_challenger(card(own), own, few, trials.policy())
    }
    assert findings["clusters"] == "undecided"


def test_a_metric_that_the_policy_requires_and_the_challenger_lacks_is_no_pass(
    own: Evidence,
) -> None:
    def without(evidence: Evidence, metric: str) -> Evidence:
        rows = {
            system: tuple(
                row.model_copy(
                    update={
                        "statistics": {
                            name: numbers
                            for name, numbers in row.statistics.items()
                            if name != metric
                        }
                    }
                )
                for row in same
            )
            for system, same in evidence.rows.items()
        }
        return Evidence(rows=rows)

    assert not beats(
        against_challenger(
            card(own),
            own,
            without(with_adapter_of(own, "base"), "bleu"),
            trials.policy(),
        )
    )


def test_a_challenger_under_other_settings_is_counted_again_under_the_finalists(
    own: Evidence,
) -> None:
    chosen = MetricSettings(bleu=BleuSettings(tokenize="char"))
    metrics = [metric_named(name, chosen) for name in own.metrics]
    same_answers = build_evidence(trials.trial(), metrics, chosen)
    texts = {
        finding.rule: finding.text
        for finding in against_challenger(card(own), own, same_answers, trials.policy())
    }
    # The same answers: a difference could only come from two ways of counting.
    guarded = texts["bleu not inferior to champion"]
    assert guarded.startswith("bleu against champion: better by 0, bounds 0 to 0")


def test_no_rule_at_all_is_no_pass() -> None:
    assert not beats(())
