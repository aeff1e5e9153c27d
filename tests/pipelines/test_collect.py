"""Files and the demo's package to rows of one form."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from core.download import PinnedPackage, fetch
from core.errors import DownloadFailed, NoSuchColumn, UnreadableData
from core.files import sha256_of
from pipelines.rows.misfit import Misfit
from pipelines.stages.collect import (
    RowSource,
    collect,
    describe_collection,
    find_local_source,
    main,
)
from pipelines.values.dataset import Collection, Row, read_rows
from pipelines.values.params import DataParams
from tests.support.row_files import DATA, make_row, workbook

ROW = {"prompt": "p", "completion": "c"}


def raw(folder: Path, name: str, records: list[dict[str, Any]]) -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def collected(
    folder: Path, records: list[dict[str, Any]], data: DataParams = DATA
) -> tuple[Collection, tuple[Row, ...], list[dict[str, Any]]]:
    source = RowSource(
        kind="file",
        name="rows",
        licence="CC0-1.0",
        rows=raw(folder, "rows.jsonl", records),
    )
    collection = collect(source, data, folder / "out")
    quarantine = (folder / "out" / "quarantine.jsonl").read_text().splitlines()
    return (
        collection,
        read_rows(folder / "out" / "rows.jsonl"),
        [json.loads(line) for line in quarantine],
    )


def with_params(**changes: Any) -> DataParams:
    return DATA.model_copy(update=changes)


def test_rows_keep_their_numbers_and_what_does_not_fit_is_set_aside_with_its_reason(
    tmp_path: Path,
) -> None:
    records: list[dict[str, Any]] = [
        ROW,
        {"prompt": 3, "completion": "c"},
        {"prompt": "p"},
        {"prompt": "p\u202e", "completion": "c"},
        {"prompt": "q", "completion": None},
        ROW,
    ]
    collection, rows, quarantine = collected(tmp_path, records)
    assert [row.number for row in rows] == [1, 6]
    assert [(row["number"], row["reason"]) for row in quarantine] == [
        (2, "column prompt is of type int, not text"),
        (3, "no column completion"),
        (4, "column prompt holds a bidirectional override"),
        (5, "column completion is null, not text"),
    ]
    assert collection.source_rows == 6
    assert collection.rows.checked() == tmp_path / "out" / "rows.jsonl"


def test_an_id_is_a_digest_of_the_content_and_of_nothing_else() -> None:
    first = make_row(1, {**ROW, "id": "x"}, DATA)
    assert first.id == make_row(99, {**ROW, "id": "y"}, DATA).id
    assert len(first.id) == 16
    assert first.id != make_row(1, {**ROW, "completion": "d"}, DATA).id
    assert first.id != make_row(1, {**ROW, "group": "g"}, DATA).id


def test_line_ends_and_accents_are_kept_in_one_form() -> None:
    row = make_row(1, {"prompt": "e\u0301\r\nx", "completion": "c"}, DATA)
    assert row.prompt == "é\nx"


def test_rows_of_one_prompt_are_one_group_unless_a_column_says_otherwise() -> None:
    assert make_row(1, {"prompt": " Ｐ  q", "completion": "c"}, DATA).group == "p q"
    assert make_row(1, {**ROW, "group": 7}, DATA).group == "7"
    assert (
        make_row(
            1, {**ROW, "g": "mine", "group": "not mine"}, with_params(group_column="g")
        ).group
        == "mine"
    )
    with pytest.raises(Misfit, match="column g is empty"):
        make_row(1, {**ROW, "g": None}, with_params(group_column="g"))
    with pytest.raises(Misfit, match="column g is empty"):
        make_row(1, {**ROW, "g": " "}, with_params(group_column="g"))


def test_an_empty_name_of_the_group_column_is_the_column_group() -> None:
    row = make_row(1, {**ROW, "group": "mine"}, with_params(group_column=""))
    assert row.group == "mine"


def test_a_feature_of_white_space_is_no_group_to_compare() -> None:
    assert (
        make_row(
            1, {**ROW, "team": " \t"}, with_params(sensitive_feature="team")
        ).feature
        is None
    )


def test_a_sensitive_feature_may_be_missing_in_a_row() -> None:
    data = with_params(sensitive_feature="f")
    assert make_row(1, {**ROW, "f": "x"}, data).feature == "x"
    assert make_row(1, {**ROW, "f": float("nan")}, data).feature is None
    assert make_row(1, {**ROW, "f": None}, data).feature is None


def test_the_last_answer_of_a_conversation_is_the_completion() -> None:
    turns = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "u"},
        {"role": "assistant", "content": "a"},
    ]
    for messages in (turns, json.dumps(turns)):
        row = make_row(1, {"messages": messages}, DATA)
        assert [message.role for message in row.messages] == ["system", "user"]
        assert row.completion == "a"


def test_keys_of_a_message_that_say_nothing_are_absent_and_tools_set_the_row_aside(
    tmp_path: Path,
) -> None:
    def row_with(**extra: Any) -> dict[str, Any]:
        return {
            "messages": [
                {"role": "user", "content": "u", **extra},
                {"role": "assistant", "content": "a", "tool_calls": None},
            ]
        }

    records = [
        row_with(),
        row_with(name=None, tool_calls=None),
        row_with(tool_calls=[]),
        row_with(name="Ann"),
        row_with(tool_calls=[{"type": "function"}]),
        row_with(content=None),
    ]
    collection, rows, quarantine = collected(tmp_path, records)
    assert [row.number for row in rows] == [1, 2, 3, 4]
    assert len({row.id for row in rows}) == 1
    assert [(row["number"], row["reason"]) for row in quarantine] == [
        (5, "column messages holds tool_calls: turns with tools are not read"),
        (6, "column messages holds a message whose content is null, not text"),
    ]
    (reading,) = collection.readings
    assert reading.notes == ("1 of 4 rows: the key name of a turn is not used",)


@pytest.mark.parametrize(
    "messages",
    [
        "[",
        "{}",
        [],
        [{"role": "assistant", "content": "a"}],
        [{"role": "user", "content": "u"}],
        [{"role": "god", "content": "u"}],
        [7],
        [{"role": "user"}],
    ],
)
def test_a_conversation_without_a_last_answer_is_no_row(messages: Any) -> None:
    with pytest.raises(Misfit):
        make_row(1, {"messages": messages}, DATA)


def test_a_missing_column_is_answered_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(
        NoSuchColumn,
        match=r"no column prompt; it has answer, question.*with "
        r"`--set data\.prompt_column=question --set data\.completion_column=answer`\.$",
    ):
        collected(tmp_path, [{"question": "q", "answer": "a"}])
    with pytest.raises(NoSuchColumn, match=r"no column food.*data\.sensitive_feature"):
        collected(tmp_path, [ROW], with_params(sensitive_feature="food"))
    with pytest.raises(NoSuchColumn, match=r"no column team.*data\.group_column"):
        collected(tmp_path, [ROW], with_params(group_column="team"))


def test_parquet_nan_is_no_text(tmp_path: Path) -> None:
    pd.DataFrame({"prompt": ["p", None], "completion": ["c", "d"]}).to_parquet(
        tmp_path / "rows.parquet"
    )
    collection = collect(find_local_source(DATA, tmp_path), DATA, tmp_path / "out")
    assert collection.source_rows == 2
    assert len(read_rows(tmp_path / "out" / "rows.jsonl")) == 1


def test_whole_numbers_that_pandas_made_floats_are_labels_and_rare_fractions_are_not(
    tmp_path: Path,
) -> None:
    data = with_params(group_column="g", sensitive_feature="f")
    columns = {"g": [1, 2, 3, None, *[9] * 26], "f": [0, None, 0.5, 1, *[1] * 26]}
    prompts = [f"p{number}" for number in range(30)]
    pd.DataFrame({"prompt": prompts, "completion": "c", **columns}).to_parquet(
        tmp_path / "rows.parquet"
    )
    collect(find_local_source(data, tmp_path), data, tmp_path / "out")
    rows = read_rows(tmp_path / "out/rows.jsonl")
    labels = [(row.group, row.feature) for row in rows]
    assert labels == [("1", "0"), ("2", None), *[("9", "1")] * 26]
    aside = [
        json.loads(line)
        for line in (tmp_path / "out/quarantine.jsonl").read_text().splitlines()
    ]
    assert [row["reason"] for row in aside] == [
        "column f is of type float, not a label",
        "column g is empty",
    ]


@pytest.mark.parametrize("label", [0.5, float("inf"), 2.0**53])
def test_a_float_that_is_no_whole_number_in_particular_is_no_label(
    label: float,
) -> None:
    with pytest.raises(Misfit, match="column g is of type float, not a label"):
        make_row(1, {**ROW, "g": label}, with_params(group_column="g"))


def test_a_fixed_held_out_set_is_kept_apart(tmp_path: Path) -> None:
    raw(tmp_path, "rows.jsonl", [ROW])
    raw(
        tmp_path,
        "held_out.jsonl",
        [{"prompt": "h", "completion": "c"}, {"prompt": 1, "completion": "c"}],
    )
    collection = collect(find_local_source(DATA, tmp_path), DATA, tmp_path / "out")
    assert collection.held_out
    assert [row.prompt for row in read_rows(collection.held_out.checked())] == ["h"]
    assert (
        "held-out file: column prompt"
        in (tmp_path / "out" / "quarantine.jsonl").read_text()
    )
    assert collection.source_rows == 3


def test_what_was_read_and_what_is_lost_is_recorded_and_said_of_both_files(
    tmp_path: Path,
) -> None:
    raw(tmp_path, "rows.jsonl", [{**ROW, "remark": "a b c"}, {"prompt": 1}])
    answer = {"role": "assistant", "content": "a"}
    turns = [{"role": "user", "content": "u"}, answer]
    raw(tmp_path, "held_out.jsonl", [{"messages": turns}, {"messages": [answer]}])
    collection = collect(find_local_source(DATA, tmp_path), DATA, tmp_path / "out")
    assert describe_collection(collection) == [
        "4 rows from file rows.jsonl, 2 of them set aside",
        "rows.jsonl: read as JSON lines",
        "held_out.jsonl: read as JSON lines",
        "read as prompt and completion",
        "not used: `remark` (text, 1 row)",
        "1 set aside: column prompt is of type int, not text",
        "held-out file: read as OpenAI chat: the last assistant turn is the answer",
        "held-out file: 1 set aside: column messages has no turn of a user before the answer",
    ]
    collection.write(tmp_path / "collection.json")
    stored = json.loads((tmp_path / "collection.json").read_text())
    assert [reading["file"] for reading in stored["readings"]] == [
        "rows.jsonl",
        "held_out.jsonl",
    ]
    # What an older version stored still loads.
    del stored["readings"]
    assert Collection.model_validate(stored).readings == ()


def test_more_reasons_than_a_line_each_are_counted(tmp_path: Path) -> None:
    records: list[dict[str, Any]] = [ROW, {"prompt": "p"}, {"prompt": "q"}]
    records += [{f"other{number}": 1} for number in range(8)]
    collection, _, quarantine = collected(tmp_path, records)
    assert len(quarantine) == 10
    first, *_, last = describe_collection(collection)[3:]
    assert first.startswith("not used: ")
    assert "2 set aside: no column completion" in describe_collection(collection)
    assert last == "4 set aside for 4 more reasons"


def test_exactly_one_file_of_rows_is_wanted(tmp_path: Path) -> None:
    with pytest.raises(
        UnreadableData,
        match=r"holds no file of rows. Put it there as rows with any suffix",
    ):
        find_local_source(DATA, tmp_path)
    raw(tmp_path, "rows.jsonl", [ROW])
    (tmp_path / "rows.jsonl.dvc").write_text("")
    assert find_local_source(DATA, tmp_path).rows == tmp_path / "rows.jsonl"
    (tmp_path / "rows.csv").write_text("")
    with pytest.raises(UnreadableData, match=r"rows\.csv and rows\.jsonl"):
        find_local_source(DATA, tmp_path)


def test_a_package_that_is_there_with_its_digest_needs_no_network(
    tmp_path: Path,
) -> None:
    kept = tmp_path / "downloads" / "x-1.tar.gz"
    kept.parent.mkdir()
    kept.write_bytes(b"x")
    package = PinnedPackage(
        name="x", version="1", filename="x-1.tar.gz", sha256=sha256_of(kept)
    )
    assert fetch(package, tmp_path) == kept


def test_without_an_index_the_next_step_is_named_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    package = PinnedPackage(
        name="cheat", version="2.5.1", filename="cheat-2.5.1.tar.gz", sha256="0" * 64
    )
    with pytest.raises(
        DownloadFailed,
        match=r"^cheat==2\.5\.1 could not be fetched: .*unreachable.*Check the network.*$",
    ):
        fetch(package, tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_a_file_was_read_as_is_recorded_and_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    params = (Path(__file__).parents[2] / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(
        params.replace("source: cheat", "source: file")
    )
    raw_folder = tmp_path / "data/raw"
    raw_folder.mkdir(parents=True)
    lines = "".join(f"p{number};größer\n" for number in range(9)).encode("cp1252")
    (raw_folder / "rows.txt").write_bytes(b"prompt;completion\n" + lines)
    broken = json.dumps(ROW).encode() + b'\n{"prompt": "\xe9"}\n'
    (raw_folder / "held_out").write_bytes(broken)
    assert main() == 0
    collection = Collection.read(tmp_path / "data/collect/collection.json")
    rows, words, held_out, lost = collection.notes
    assert "9 lines beyond ASCII" in words
    assert "such as größer" in words
    assert rows.startswith("rows.txt: read as CSV with semicolons in Windows-1252")
    assert held_out == "held_out: read as JSON lines"
    assert lost.startswith("1 row was set aside for characters beyond ASCII")
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "11 rows from file rows.txt, 1 of them set aside"
    assert said[1:5] == list(collection.notes)


def test_a_collection_from_before_notes_is_read(tmp_path: Path) -> None:
    collection, _, _ = collected(tmp_path, [ROW])
    document = collection.model_dump(exclude={"notes"})
    assert Collection.model_validate(document).notes == ()


def test_what_a_workbook_does_not_hold_is_named_in_the_reason(tmp_path: Path) -> None:
    rows: list[list[Any]] = [["prompt", "completion", "group"], ["p", "=1+1", 3.0]]
    rows += [["q", 42, "g"]]
    rows += [["r", "c", 3.0], ["s", "#N/A", "g"], ["t", "c", "#N/A"]]
    (tmp_path / "rows.xlsx").write_bytes(workbook(("A", rows)))
    collect(find_local_source(DATA, tmp_path), DATA, tmp_path / "out")
    (row,) = read_rows(tmp_path / "out/rows.jsonl")
    assert (row.number, row.group) == (4, "3")
    aside = (tmp_path / "out/quarantine.jsonl").read_text().splitlines()
    assert [json.loads(line)["reason"] for line in aside] == [
        "column completion is a formula in cell B2 whose result was not saved, not text",
        "column completion is of type int, not text",
        "column completion is the error #N/A in cell B5, not text",
        "column group is the error #N/A in cell C6, not a label",
    ]


def test_columns_of_labels_are_found_whatever_their_case(tmp_path: Path) -> None:
    record = {"Prompt": "p", "Completion": "c", "Customer": "k1", "Region": "north"}
    raw(tmp_path, "rows.jsonl", [record])
    data = DATA.model_copy(
        update={"group_column": "customer", "sensitive_feature": "region"}
    )
    collection = collect(find_local_source(data, tmp_path), data, tmp_path)
    (row,) = read_rows(Path(collection.rows.path))
    assert (row.group, row.feature) == ("k1", "north")
