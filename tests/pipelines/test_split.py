"""Whole groups to three splits, by nothing but their own hash."""

from pathlib import Path

import pytest

from core.errors import EmptySplit, ParameterError
from core.value import FileDigest
from pipelines.gates.reserve_policy import is_reserve_sealed
from pipelines.stages.split import (
    Splits,
    assign_split,
    count_overlap,
    describe_version,
    split,
)
from pipelines.values.dataset import SPLITS, Collection, Message, Row, write_rows
from pipelines.values.params import SplitParams
from pipelines.values.reserve import key_of

PARAMS = SplitParams(dev=0.15, held_out=0.25, salt="salt")


def row(prompt: str, completion: str = "c", group: str | None = None) -> Row:
    message = Message(role="user", content=prompt)
    return Row(
        id=f"{prompt}-{completion}",
        number=1,
        messages=(message,),
        completion=completion,
        group=group or prompt,
    )


def places(splits: Splits) -> dict[str, str]:
    return {row.group: name for name in SPLITS for row in splits.of(name)}


ROWS = [row(f"p{number}", group=f"g{number % 60}") for number in range(240)]


def test_rows_of_one_group_stay_together() -> None:
    splits = split(ROWS, None, PARAMS)
    seen = [{found.group for found in splits.of(name)} for name in SPLITS]
    assert all(seen)
    assert sum(len(groups) for groups in seen) == 60
    assert sum(len(splits.of(name)) for name in SPLITS) == 240


def test_a_group_that_grows_keeps_its_split() -> None:
    grown = ROWS + [row(f"more{number}", group="g7") for number in range(500)]
    assert places(split(grown, None, PARAMS)) == places(split(ROWS, None, PARAMS))


def test_new_groups_move_no_other_group() -> None:
    before = places(split(ROWS, None, PARAMS))
    after = places(
        split([row(f"n{number}") for number in range(300)] + ROWS, None, PARAMS)
    )
    assert {group: after[group] for group in before} == before


def test_shares_are_near_what_was_asked() -> None:
    groups = [
        assign_split(f"group {number}", PARAMS, held_out_is_fixed=False)
        for number in range(4000)
    ]
    assert abs(groups.count("held_out") / 4000 - 0.25) < 0.03
    assert abs(groups.count("dev") / 4000 - 0.15) < 0.03


def test_with_a_fixed_held_out_set_dev_keeps_its_share_of_the_rest() -> None:
    groups = [
        assign_split(f"group {number}", PARAMS, held_out_is_fixed=True)
        for number in range(4000)
    ]
    assert "held_out" not in groups
    assert abs(groups.count("dev") / 4000 - 0.2) < 0.03


def test_another_salt_draws_another_split() -> None:
    assert places(split(ROWS, None, PARAMS)) != places(
        split(ROWS, None, PARAMS.model_copy(update={"salt": "other"}))
    )


def test_exact_duplicates_are_removed_and_counted() -> None:
    repeated = [
        *ROWS,
        row("P0  ", group="elsewhere"),
        row("p1"),
        row("p1", "another answer", "g1"),
    ]
    splits = split(repeated, None, PARAMS)
    assert splits.duplicates == 2
    assert sum(len(splits.of(name)) for name in SPLITS) == 241
    assert "elsewhere" not in places(splits)


def test_a_fixed_held_out_set_judges_whole_and_its_overlap_is_counted() -> None:
    fixed = [row("p3"), row("P4 "), row("P4 ", "d"), row("unseen")]
    splits = split([*ROWS, row("p3", "e")], fixed, PARAMS)
    assert splits.held_out == tuple(fixed)
    assert count_overlap(splits) == {"prompts": 2, "rows": 3}


def test_splits_without_a_common_prompt_do_not_overlap() -> None:
    assert count_overlap(split(ROWS, None, PARAMS)) == {"prompts": 0, "rows": 0}


def test_fewer_groups_than_splits_pass_on_to_the_gate_which_has_every_reason() -> None:
    alone = split([row(f"p{number}", group="g") for number in range(20)], None, PARAMS)
    assert sorted(len(alone.of(name)) for name in SPLITS) == [0, 0, 20]
    assert split(
        [row("a", group="g"), row("b", group="g")], [row("h")], PARAMS
    ).held_out == (row("h"),)


def test_no_rows_at_all_pass_on_to_the_gate() -> None:
    assert split([], None, PARAMS) == Splits(
        train=(), dev=(), held_out=(), duplicates=0
    )


def test_an_empty_fixed_held_out_set_is_named() -> None:
    with pytest.raises(EmptySplit, match=r"data/raw/held_out\.\*"):
        split(ROWS, [], PARAMS)


def test_the_version_counts_rows_groups_and_duplicates(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", ROWS)
    digest = FileDigest.of(tmp_path / "rows.jsonl")
    collection = Collection(
        source="s",
        licence=None,
        rows=digest,
        quarantine=digest,
        held_out=None,
        source_rows=250,
        source_sha256="0" * 64,
    )
    version = describe_version(split([*ROWS, ROWS[0]], None, PARAMS), collection)
    assert sum(version.rows.values()) == 240
    assert sum(version.groups.values()) == 60
    assert (version.duplicates, version.source_rows, version.held_out_is_fixed) == (
        1,
        250,
        False,
    )
    assert version.sha256 == digest.sha256


# The sealed reserve.


def judging(count: int = 200) -> list[Row]:
    return [row(f"question {number}", group=f"g{number}") for number in range(count)]


def test_half_of_the_held_out_groups_are_sealed_by_a_hash_of_their_own() -> None:
    rows = [*judging(400), row("another of g1", group="g1")]
    open_splits = split(rows, None, PARAMS)
    splits = split(rows, None, PARAMS, frozenset())
    assert (splits.train, splits.dev) == (open_splits.train, open_splits.dev)
    assert open_splits.reserve == ()
    groups = {row.group for row in splits.reserve}
    assert groups.isdisjoint(row.group for row in splits.held_out)
    whole = {*splits.reserve, *splits.held_out}
    assert whole == set(open_splits.held_out)
    assert 0.3 < len(splits.reserve) / len(whole) < 0.7


def test_new_groups_and_opened_ones_move_no_other_group() -> None:
    few, many = (
        split(judging(count), None, PARAMS, frozenset()) for count in (200, 400)
    )
    assert set(few.reserve) <= set(many.reserve)
    first = few.reserve[0].group
    opened = split(judging(200), None, PARAMS, frozenset({key_of(first)}))
    assert set(few.reserve) - set(opened.reserve) == {few.reserve[0]}
    assert few.reserve[0] in opened.held_out


def test_a_fixed_held_out_set_is_sealed_by_half_as_well() -> None:
    splits = split(judging(20), judging(100), PARAMS, frozenset())
    assert splits.reserve
    assert splits.held_out
    assert len(splits.reserve) + len(splits.held_out) == 100


def test_a_prompt_of_the_reserve_that_training_repeats_is_an_overlap() -> None:
    sealed = split([], judging(100), PARAMS, frozenset()).reserve[0]
    repeated = row(sealed.prompt, completion="another", group="of training")
    overlap = count_overlap(
        Splits(train=(repeated,), dev=(), held_out=(), reserve=(sealed,), duplicates=0)
    )
    assert overlap == {"prompts": 1, "rows": 1}


@pytest.mark.parametrize(
    ("text", "is_sealed"),
    [
        ("screen: {reserve: sealed}", True),
        ("screen: {reserve: none}", False),
        ("screen: {primary: chrf}", False),
    ],
)
def test_a_policy_says_whether_a_reserve_is_sealed(
    tmp_path: Path, text: str, is_sealed: bool
) -> None:
    (tmp_path / "policy.yaml").write_text(text)
    assert is_reserve_sealed(tmp_path / "policy.yaml") is is_sealed


@pytest.mark.parametrize(
    "text",
    [
        "screen: {reserve: Sealed}",
        "screen: {reserve: true}",
        "admit: {}",
        "screen: sealed",
        "screen: 1",
        "[]",
        "",
    ],
)
def test_a_policy_that_says_anything_else_seals_nothing_and_ends_the_stage(
    tmp_path: Path, text: str
) -> None:
    (tmp_path / "policy.yaml").write_text(text)
    with pytest.raises(ParameterError, match="nothing passes"):
        is_reserve_sealed(tmp_path / "policy.yaml")
