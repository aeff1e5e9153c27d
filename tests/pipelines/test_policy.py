"""A policy under which some gate would ask for nothing does not load.

The error says which number goes too far.
"""

import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from core.errors import ParameterError
from pipelines.gates.admit_policy import AdmitLimits, load_admit_limits
from pipelines.gates.policy import FEWEST_CLUSTERS, Policy, load_policy
from pipelines.metrics import METRICS, metric_named
from pipelines.values.sampling import DEFAULT
from tests.support import trials

WHOLE = trials.POLICY.read_text(encoding="utf-8")
ALL_AGAINST = "{metric: bleu, margin: 1.0}"


def loaded(folder: Path, old: str, new: str) -> Policy:
    """The default policy with one line edited."""
    assert old in WHOLE
    (folder / "policy.yaml").write_text(WHOLE.replace(old, new, 1), encoding="utf-8")
    return load_policy(folder / "policy.yaml")


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (
            "bleu, margin: 1.0",
            "bleu, margin: 20.01",
            "the margin of bleu is 20.01, and the ceiling is 20",
        ),
        (
            "bleu, margin: 1.0",
            "bleu, margin: 1.0e+9",
            r"the margin of bleu is 1e\+09, and the ceiling is 20",
        ),
        (
            "exact_match, margin: 0.02",
            "exact_match, margin: 0.201",
            "the margin of exact_match is 0.201, and the ceiling is 0.2",
        ),
        (
            "command_validity, margin: 0.05",
            "command_validity, margin: 0.201",
            "the margin of command_validity is 0.201",
        ),
        (
            "perplexity_per_token, margin: 0.5",
            "perplexity_per_token, margin: 20.1",
            "perplexity_per_token is 20.1, and the ceiling is 20",
        ),
        (
            "bits_per_byte, margin: 0.05",
            "bits_per_byte, margin: 1.601",
            "the margin of bits_per_byte is 1.601, and the ceiling is 1.6",
        ),
        (
            "smallest_effect: 2.0",
            "smallest_effect: 10.01",
            "smallest_effect is 10.01, and the ceiling is 10",
        ),
        (
            "smallest_effect: 2.0",
            "smallest_effect: 1.0e+9",
            r"smallest_effect is 1e\+09, and the ceiling is 10",
        ),
        (
            "smallest_effect: 2.0",
            "smallest_effect: 0.05",
            "the margin of bleu is 1, and the ceiling is 0.5",
        ),
        (
            "max_output_score_difference: 10.0",
            "max_output_score_difference: 1.0e+9",
            "less than or equal to 50",
        ),
        (
            "max_output_score_difference: 10.0",
            "max_output_score_difference: 50.1",
            "less than or equal to 50",
        ),
        (
            "max_output_rate_difference: 0.2",
            "max_output_rate_difference: 0.51",
            "less than or equal to 0.5",
        ),
        (
            "max_quarantine_share: 0.05",
            "max_quarantine_share: 0.51",
            "less than or equal to 0.5",
        ),
        (
            "max_quarantine_share: 0.05",
            "max_quarantine_share: 1.0",
            "less than or equal to 0.5",
        ),
        (
            "max_demographic_parity_difference: 0.2",
            "max_demographic_parity_difference: 0.51",
            "less than or equal to 0.5",
        ),
        (
            "{train: 50,",
            "{train: 0,",
            "min_rows.train: Input should be greater than or equal to 1",
        ),
        (
            "{train: 20,",
            "{train: -1,",
            "min_groups.train: Input should be greater than or equal to 1",
        ),
        ("min_group_size: 20", "min_group_size: 4", "greater than or equal to 5"),
        ("name: default", "name: x\nreplica_quorum: 50", "greater than or equal to 51"),
        ("name: default", "name: x\nreplica_quorum: 101", "less than or equal to 100"),
        ("name: default", "name: x\nreplica_quorum: 66.5", "valid integer"),
        ("min_clusters: 20", "min_clusters: 9", "greater than or equal to 10"),
        ("min_clusters: 20", "min_clusters: 2", "greater than or equal to 10"),
        ("alpha: 0.05", "alpha: 0.101", "less than or equal to 0.1"),
        ("resamples: 10000", "resamples: 1000001", "less than or equal to 1000000"),
        (
            "known_answers_share: 0.75",
            "known_answers_share: 0.49",
            "greater than or equal to 0.5",
        ),
        (
            "known_answers_share: 0.75",
            "known_answers_share: 1.0e-9",
            "greater than or equal to 0.5",
        ),
        ("min_raters: 3}", "min_raters: 3, margin: 1.01}", "less than or equal to 1"),
        (
            "min_raters: 3}",
            "min_raters: 3, min_safe_share: 0.49}",
            "greater than or equal to 0.5",
        ),
        ("min_raters: 3}", "min_raters: 3, min_agreement: 0}", "greater than 0"),
        (
            "min_raters: 3}",
            "min_raters: 2, min_agreement: null}",
            "min_agreement is null, which one rater may be asked for",
        ),
        (
            "min_raters: 3}",
            "min_raters: 3, min_planted_caught: 0.49}",
            "greater than or equal to 0.5",
        ),
        (
            "control: chrf",
            "control: bits_per_byte",
            "control bits_per_byte compares no answer with references",
        ),
        ("control: chrf", "control: nothing", "There is no metric nothing"),
        (
            "primary: chrf",
            "primary: chrff",
            "There is no metric chrff. Did you mean chrf",
        ),
        (
            "{metric: bleu, margin: 1.0}",
            "{metric: blue, margin: 1.0}",
            "There is no metric blue. Did you mean bleu",
        ),
        (
            "{metric: exact_match, margin",
            "{metric: bleu, margin",
            "guardrails name bleu twice",
        ),
        (ALL_AGAINST, "{metric: bleu, margin: 1.0, against: []}", "at least 1 item"),
        (
            ALL_AGAINST,
            "{metric: bleu, margin: 1.0, against: [adapter]}",
            "'base', 'few_shot', 'retrieval', 'champion' or 'anchor'",
        ),
    ],
)
def test_a_number_that_would_let_anything_pass_does_not_load(
    tmp_path: Path, old: str, new: str, sentence: str
) -> None:
    with pytest.raises(ParameterError, match=sentence) as error:
        loaded(tmp_path, old, new)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("bleu, margin: 1.0", "bleu, margin: 20.0"),
        ("exact_match, margin: 0.02", "exact_match, margin: 0.2"),
        ("perplexity_per_token, margin: 0.5", "perplexity_per_token, margin: 20.0"),
        ("bits_per_byte, margin: 0.05", "bits_per_byte, margin: 1.6"),
        ("smallest_effect: 2.0", "smallest_effect: 10.0"),
        ("max_output_score_difference: 10.0", "max_output_score_difference: 50.0"),
        ("max_output_score_difference: 10.0", "max_output_score_difference: null"),
        ("max_output_rate_difference: 0.2", "max_output_rate_difference: 0.5"),
        ("max_quarantine_share: 0.05", "max_quarantine_share: 0.5"),
        ("{train: 50,", "{train: 1,"),
        ("min_group_size: 20", "min_group_size: 5"),
        ("min_clusters: 20", "min_clusters: 10"),
        ("alpha: 0.05", "alpha: 0.1"),
        ("known_answers_share: 0.75", "known_answers_share: 0.5"),
        (
            "max_overlap: 0",
            "max_overlap: 100000",
        ),  # it is told in a finding, and the policy at release judges again
    ],
)
def test_a_policy_at_a_ceiling_loads(tmp_path: Path, old: str, new: str) -> None:
    loaded(tmp_path, old, new)


def test_a_margin_is_never_over_half_a_scale(tmp_path: Path) -> None:
    screen = loaded(
        tmp_path, "smallest_effect: 2.0", "smallest_effect: 10.0"
    ).gates.screen
    assert {metric.name: screen.most_margin(metric) for metric in METRICS} == {
        metric.name: metric.scale / 2 for metric in METRICS
    }
    assert trials.policy().gates.screen.most_margin(metric_named("bleu")) == 20


@pytest.mark.parametrize("rails", ["[]", "[{metric: chrf, margin: 1.0}]"])
def test_a_policy_that_guards_nothing_does_not_load(tmp_path: Path, rails: str) -> None:
    before, _, after = WHOLE.partition("  guardrails:\n")
    kept = "\n".join(
        line for line in after.splitlines() if not line.startswith("    - ")
    )
    (tmp_path / "policy.yaml").write_text(
        f"{before}  guardrails: {rails}\n{kept}\n", encoding="utf-8"
    )
    with pytest.raises(ParameterError, match="guardrails"):
        load_policy(tmp_path / "policy.yaml")


def test_a_policy_that_nests_too_deep_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text("[" * 2_000, encoding="utf-8")
    with pytest.raises(ParameterError, match="cannot be read"):
        load_policy(tmp_path / "policy.yaml")


def test_the_floor_of_clusters_is_the_one_that_was_simulated() -> None:
    assert FEWEST_CLUSTERS == 10


@pytest.mark.parametrize("load", [load_policy, load_admit_limits])
def test_the_digest_of_a_policy_is_that_of_the_bytes_that_were_read(
    tmp_path: Path, load: Callable[[Path], Policy | AdmitLimits]
) -> None:
    # A pipe gives its bytes once: who reads a second time would wait for ever.
    path = tmp_path / "policy.yaml"
    os.mkfifo(path)
    loaded: list[Policy | AdmitLimits] = []
    reader = threading.Thread(target=lambda: loaded.append(load(path)), daemon=True)
    reader.start()
    path.write_text(WHOLE, encoding="utf-8")
    reader.join(20)
    assert [each.sha256 for each in loaded] == [
        hashlib.sha256(WHOLE.encode()).hexdigest()
    ]


@pytest.mark.parametrize("text", ["", "[]", "admit: 3", "name: x", "3"])
def test_the_first_gate_has_no_limits_in_a_file_that_names_none(
    tmp_path: Path, text: str
) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ParameterError, match=r"policy\.yaml"):
        load_admit_limits(path)


def test_both_readers_of_a_policy_find_the_same_limits_and_digest() -> None:
    whole = load_policy(trials.POLICY)
    first = load_admit_limits(trials.POLICY)
    assert (first.sha256, first.admit) == (whole.sha256, whole.admit)


def test_the_policy_for_one_person_differs_in_what_people_give() -> None:
    policies = Path(__file__).parents[2] / "registry/policies"
    solo = load_policy(policies / "solo.yaml").gates
    default = load_policy(policies / "default.yaml").gates
    own = {"human_rating": solo.judge.human_rating, "approvals": 0}
    judge = default.judge.model_copy(update=own)
    # Small data, too: one person has few groups to keep sealed.
    screen = default.screen.model_copy(update={"reserve": solo.screen.reserve})
    same = {"name": "solo", "judge": judge, "screen": screen}
    assert solo == default.model_copy(update=same)
    rating = solo.judge.human_rating
    assert (rating.required, rating.min_raters, rating.author_may_rate) == (
        True,
        1,
        True,
    )


def test_the_demos_policy_differs_in_its_reserve_alone() -> None:
    policies = Path(__file__).parents[2] / "registry/policies"
    demo = load_policy(policies / "cheat-smollm2.yaml").gates
    default = load_policy(policies / "default.yaml").gates
    assert (default.screen.reserve, demo.screen.reserve) == ("sealed", "none")
    screen = default.screen.model_copy(update={"reserve": "none"})
    assert demo == default.model_copy(update={"name": demo.name, "screen": screen})


def test_a_number_of_samples_is_said_where_it_is_not_the_default() -> None:
    # A policy that says the same as before has the digest of before.
    assert "min_samples" not in trials.policy().gates.screen.model_dump()
    asked = trials.policy(min_samples=DEFAULT + 1).gates.screen
    assert asked.model_dump()["min_samples"] == DEFAULT + 1
