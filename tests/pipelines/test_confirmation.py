"""The second look: which groups are a block, and when a block confirms what passed `screen`."""

import math
from typing import Any

import pytest

from pipelines.gates.confirmation import (
    YEAR_RULE,
    choose_prompt,
    confirm,
    cut_block,
    find_block_faults,
    find_confirmed,
    name_error,
)
from pipelines.values.dataset import Message, Row
from pipelines.values.reserve import (
    Block,
    Confirmation,
    digest_of_rows,
    key_of,
)
from pipelines.values.verdict import Comparison, Finalist, Finding, Undecided
from tests.support import trials

FINALIST = Finalist(
    findings=(Finding(rule="superior", outcome="passed", text="better"),),
    comparisons=(
        Comparison(
            metric="chrf",
            against="base",
            difference=9,
            low=8,
            high=10,
            standard_error=1,
            clusters=40,
        ),
    ),
    policy_sha256="9" * 64,
    scorecard_digest="8" * 64,
    adapter=trials.adapter(),
    spec=trials.spec(),
)


def row(group: str, prompt: str | None = None) -> Row:
    return Row(
        id=group,
        number=1,
        messages=(Message(role="user", content=prompt or f"what is {group}"),),
        completion=f"answer of {group}",
        group=group,
    )


def names(prefix: str, count: int) -> list[str]:
    # Letters, since numbers alone make no other content.
    return [
        f"{prefix}{'abcdefghijklmnopqrstuvwxyz'[at % 26] * (1 + at // 26)}"
        for at in range(count)
    ]


def rows(prefix: str, count: int) -> list[Row]:
    return [row(name) for name in names(prefix, count)]


def test_a_block_has_the_groups_that_come_first_as_many_as_judge_every_candidate() -> (
    None
):
    sealed = rows("s", 30)
    ordered = [each.group for each in reversed(sealed)]
    cut = cut_block(rows("h", 12), sealed, ordered, fewest=10)
    assert cut.lacking == 0
    assert [each.group for each in cut.rows] == ordered[:12]


@pytest.mark.parametrize(
    ("standing", "sealed", "fewest", "lacking"),
    [
        (12, 10, 10, 0),
        (12, 9, 10, 1),
        (12, 9, 8, 0),
        (12, 8, 8, 1),
        (13, 9, 8, 1),
        (13, 10, 8, 0),
        (4, 0, 10, 10),
        (0, 10, 10, 0),
    ],
)
def test_three_quarters_of_what_judges_will_do_and_never_fewer_than_the_policy_asks(
    standing: int, sealed: int, fewest: int, lacking: int
) -> None:
    groups = rows("s", sealed)
    ordered = [each.group for each in groups]
    cut = cut_block(rows("h", standing), groups, ordered, fewest)
    assert cut.lacking == lacking
    assert bool(cut.rows) == (lacking == 0)


def test_a_group_whose_content_was_scored_before_is_no_part_of_a_block() -> None:
    standing = rows("h", 3)
    sealed = [row("twin", "what is ha"), row("copy", "what is sb"), *rows("s", 3)]
    sealed[0] = sealed[0].model_copy(update={"completion": "answer of ha"})
    sealed[1] = sealed[1].model_copy(update={"completion": "answer of sb"})
    ordered = ["twin", "copy", "sa", "sb", "sc"]
    cut = cut_block(standing, sealed, ordered, fewest=3)
    assert [each.group for each in cut.rows] == ["copy", "sa", "sc"]
    assert cut_block(standing, sealed, ordered, fewest=4).lacking == 1


def test_all_rows_of_a_group_are_in_the_block() -> None:
    sealed = [*rows("s", 3), row("sa", "another one")]
    cut = cut_block([], sealed, ["sb", "sa", "sc"], fewest=3)
    assert [each.group for each in cut.rows] == ["sb", "sa", "sa", "sc"]


def block(of: list[Row], **changes: Any) -> Block:
    facts = {
        "number": 2,
        "level": 0.0072,
        "groups": tuple(key_of(each.group) for each in of),
        "rows_sha256": digest_of_rows(tuple(of)),
        "against": "champion",
    }
    return Block.model_validate({**facts, **changes})


def confirmation(low: float, clusters: int = 41) -> Confirmation:
    comparison = Comparison.model_construct(
        metric="chrf",
        against="champion",
        difference=3.14,
        low=low,
        high=9.0,
        standard_error=1.0,
        clusters=clusters,
    )
    return Confirmation.model_construct(
        block=block(rows("s", 3)), comparison=comparison, missing=""
    )


@pytest.mark.parametrize(
    ("low", "clusters", "outcome"),
    [
        (0.8, 41, "passed"),
        (1e-9, 10, "passed"),
        (0.0, 41, "undecided"),
        (-0.1, 41, "undecided"),
        (math.nan, 41, "undecided"),
        (0.8, 9, "undecided"),
    ],
)
def test_only_a_bound_above_zero_on_ten_groups_confirms(
    low: float, clusters: int, outcome: str
) -> None:
    finding = find_confirmed(confirmation(low, clusters))
    assert (finding.rule, finding.outcome) == ("confirmation", outcome)
    verdict = confirm(FINALIST, confirmation(low, clusters))
    assert isinstance(verdict, Finalist if outcome == "passed" else Undecided)
    assert verdict.findings == (*FINALIST.findings, finding)
    assert verdict.comparisons == FINALIST.comparisons


def test_the_line_says_which_confirmation_it_was_and_both_numbers() -> None:
    assert find_confirmed(confirmation(0.8)).text == (
        "Confirmation 2 of this year at level 0.0072 on 41 sealed groups: "
        "chrf better than champion by 3.14, bound 0.8"
    )
    worse = find_confirmed(confirmation(-0.8)).text
    assert "not above 0: it was better on the rows that chose it alone" in worse
    assert "under 10 groups" in find_confirmed(confirmation(0.8, 9)).text


@pytest.mark.parametrize(
    ("low", "outcome", "says"),
    [
        (-0.9, "passed", "the policy allows a loss under 1"),
        (-1.0, "undecided", "not above -1: it was as good on the rows that chose it"),
    ],
)
def test_what_may_be_equal_is_confirmed_within_its_margin(
    low: float, outcome: str, says: str
) -> None:
    opened = block(rows("s", 3), margin=1.0)
    found = find_confirmed(confirmation(low).model_copy(update={"block": opened}))
    assert found.outcome == outcome
    assert says in found.text


def test_a_block_without_its_comparison_confirms_nothing() -> None:
    cut = confirmation(0.8).model_copy(update={"comparison": None, "missing": "gone"})
    finding = find_confirmed(cut)
    assert (finding.outcome, finding.text) == ("undecided", "gone")


def test_where_no_block_was_opened_the_reason_is_the_verdict() -> None:
    reason = Confirmation(missing="No block is left: 7 groups more are needed")
    verdict = confirm(FINALIST, reason)
    assert isinstance(verdict, Undecided)
    assert verdict.findings[-1].text == reason.missing


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"missing": "why", "block": block(rows("s", 2))},
        {"block": block(rows("s", 2))},
    ],
)
def test_a_confirmation_is_whole_or_says_why_there_is_none(
    parts: dict[str, Any],
) -> None:
    with pytest.raises(ValueError, match="neither a whole confirmation nor a reason"):
        Confirmation(**parts)


def test_rows_of_a_block_are_those_that_were_opened_and_no_others() -> None:
    opened = rows("s", 3)
    assert find_block_faults(block(opened), opened, rows("h", 3)) == ()
    edited = [*opened[:2], opened[2].model_copy(update={"completion": "another"})]
    (fault,) = find_block_faults(block(opened), edited, [])
    assert "not those of the block" in fault
    others = block(rows("t", 3), rows_sha256=digest_of_rows(tuple(opened)))
    (fault,) = find_block_faults(others, opened, [])
    assert "of other groups" in fault
    (fault,) = find_block_faults(block(opened), opened, [opened[1]])
    assert "is not sealed" in fault


def test_a_group_whose_name_is_no_text_has_a_key() -> None:
    assert key_of("\ud800") != key_of("?")
    assert len(key_of("")) == 32


def lead(against: str, difference: float, metric: str = "chrf") -> Comparison:
    facts = {"low": difference, "high": difference, "standard_error": 1.0}
    return Comparison.model_validate(
        {
            "metric": metric,
            "against": against,
            "difference": difference,
            "clusters": 40,
            **facts,
        }
    )


@pytest.mark.parametrize(
    ("comparisons", "chosen"),
    [
        ((), "few_shot"),
        ((lead("few_shot", 3.0),), "few_shot"),
        ((lead("few_shot", 3.0), lead("retrieval", 2.9)), "retrieval"),
        ((lead("few_shot", 2.9), lead("retrieval", 3.0)), "few_shot"),
        # Of equal ones that which every policy asks for.
        ((lead("few_shot", 3.0), lead("retrieval", 3.0)), "few_shot"),
        ((lead("few_shot", 3.0), lead("retrieval", 1.0, "bleu")), "few_shot"),
    ],
)
def test_a_block_compares_with_the_prompt_that_came_nearest(
    comparisons: tuple[Comparison, ...], chosen: str
) -> None:
    assert choose_prompt(comparisons, "chrf") == chosen


def test_a_prompt_that_is_a_baseline_is_compared_with_another_one() -> None:
    leads = (lead("few_shot", 0.0), lead("base", 4.0))
    assert choose_prompt(leads, "chrf", "few_shot") == "base"
    assert choose_prompt((*leads, lead("retrieval", 3.0)), "chrf", "few_shot") == (
        "retrieval"
    )
    # A base that came nearer by chance is not the best prompt.
    nearer = (lead("few_shot", 5.0), lead("base", 4.0))
    assert choose_prompt(nearer, "chrf") == "few_shot"


def test_a_verdict_without_a_reserve_says_which_error_a_year_has() -> None:
    (finding,) = name_error(trials.policy(reserve="none").gates.screen)
    assert (finding.rule, finding.outcome) == (YEAR_RULE, "passed")
    assert "72 of 100 years release one falsely" in finding.text
    assert name_error(trials.policy(reserve="sealed").gates.screen) == ()
