"""Whole groups to three splits, by nothing but their own hash."""

from pathlib import Path

import pytest

from core.errors import EmptySplit
from core.value import FileDigest
from pipelines.stages.split import (
    Splits,
    assign_split,
    count_overlap,
    describe_version,
    split,
)
from pipelines.values.dataset import SPLITS, Collection, Message, Row, write_rows
from pipelines.values.params import SplitParams

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
