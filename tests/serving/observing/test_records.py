"""Records: masked, bounded on disk, readable after a kill, and never in the way."""

import json
import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from serving.feedback_schema import Rating
from serving.observing import store as store_module
from serving.observing.figures import Source
from serving.observing.metrics import Metrics
from serving.observing.observer import Observer
from serving.observing.origin import Origin
from serving.observing.reading import read_feedback, read_requests, records_folder
from serving.observing.records import (
    FEEDBACK,
    JOURNAL,
    Bounds,
    RequestRecordRules,
    Row,
)
from serving.observing.request_log import FeedbackLog, RequestLog
from serving.observing.store import RecordStore, Table, prune
from tests.support.exchanges import completed

TEXT = "Write to joe@example.com"
SCOPE = {
    "type": "http",
    "method": "POST",
    "path": "/v1/completions",
    "headers": [(b"authorization", b"Bearer sk-1")],
}


def row(number: int = 0) -> Row:
    return {
        "time": datetime.now(UTC),
        "answer_id": f"a{number}",
        "model": "m",
        "release": "1",
        "fingerprint": "f",
        "score": 1,
        "text": None,
        "correction": None,
    }


class Tallied:
    def __init__(self) -> None:
        self.rows = 0
        self.dropped: Counter[str] = Counter()

    def count_rows(self, store: str, count: int) -> None:
        self.rows += count

    def count_dropped(self, store: str, reason: str, count: int = 1) -> None:
        self.dropped[reason] += count


def table(folder: Path, **bounds: Any) -> Table:
    return Table("feedback", FEEDBACK, folder, Bounds.model_validate(bounds))


@contextmanager
def running(described: Table) -> Iterator[tuple[RecordStore, Tallied]]:
    counts = Tallied()
    store = RecordStore(described, counts)
    yield store, counts
    store.close()


def kept(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.parquet"))


def observed(home: Path, rules: RequestRecordRules) -> None:
    """One request, from its beginning to its record."""
    observer = Observer(Source(is_released=lambda name: name == "m"))
    observer.add(RequestLog(home, rules, observer.metrics))
    completed(observer, "m", TEXT)
    completed(observer, "made-up", TEXT)
    observer.close()


def test_a_request_is_kept_without_texts_unless_somebody_asks(tmp_path: Path) -> None:
    observed(tmp_path, RequestRecordRules())
    one, other = read_requests(tmp_path).to_pylist()
    assert (one["model"], one["release"], one["status"]) == ("m", "3", 200)
    assert (one["prompt_tokens"], one["completion_tokens"]) == (5, 7)
    assert (one["prompt"], one["answer"]) == (None, None)
    assert one["guardrails"] == ["response.email.mask:2"]
    assert one["answer_form"] == "json_object"
    assert one["time"].tzinfo is not None
    # What is not released is somebody's own text.
    assert other["model"] == ""


def test_records_from_before_a_column_was_added_are_read(tmp_path: Path) -> None:
    observed(tmp_path, RequestRecordRules())
    (file,) = kept(records_folder(tmp_path) / "requests")
    older = pq.read_table(file).drop_columns(["answer_form"])
    pq.write_table(older, file)
    one, _ = read_requests(tmp_path).to_pylist()
    assert (one["answer_form"], one["model"]) == (None, "m")


def test_texts_are_kept_masked_alone(tmp_path: Path) -> None:
    observed(tmp_path, RequestRecordRules(texts="masked"))
    one, _ = read_requests(tmp_path).to_pylist()
    masked = "Write to [EMAIL]"
    assert json.loads(one["prompt"]) == [{"role": "user", "content": masked}]
    assert one["answer"] == masked
    files = [each for each in records_folder(tmp_path).rglob("*") if each.is_file()]
    assert files
    for each in files:
        assert b"joe@" not in each.read_bytes()
        assert each.stat().st_mode & 0o077 == 0


def test_only_a_share_is_kept(tmp_path: Path) -> None:
    observer = Observer(Source(is_released=lambda _: True))
    observer.add(RequestLog(tmp_path, RequestRecordRules(share=0.5), observer.metrics))
    for _ in range(400):
        completed(observer, "m", TEXT)
    observer.close()
    assert 100 < read_requests(tmp_path).num_rows < 300


def test_a_rating_is_kept_with_what_gave_the_answer_and_its_texts_masked(
    tmp_path: Path,
) -> None:
    log = FeedbackLog(tmp_path, Bounds(), Metrics(Source()))
    rating = Rating(id="chatcmpl-1", score=-1, text=TEXT, correction="ls")
    log.rate(rating, Origin("m", "3", "f"))
    log.close()
    (kept_row,) = read_feedback(tmp_path).to_pylist()
    kept_row.pop("time")
    assert kept_row == {
        "answer_id": "chatcmpl-1",
        "model": "m",
        "release": "3",
        "fingerprint": "f",
        "score": -1,
        "text": "Write to [EMAIL]",
        "correction": "ls",
    }


def test_nothing_kept_is_an_empty_table(tmp_path: Path) -> None:
    assert read_requests(tmp_path).num_rows == 0


def test_what_a_killed_endpoint_left_is_kept_by_the_next_one(tmp_path: Path) -> None:
    folder = records_folder(tmp_path) / "feedback"
    folder.mkdir(parents=True)
    line = json.dumps({**row(), "time": "2026-11-27T06:00:00.000001Z"})
    (folder / JOURNAL).write_text(f'{line}\n{{"time": "20')
    # Read as it is, and after the next endpoint has made Parquet of it.
    assert read_feedback(tmp_path).num_rows == 1
    with running(table(folder)) as (store, _):
        store.put(row)
    assert [each["answer_id"] for each in read_feedback(tmp_path).to_pylist()] == [
        "a0",
        "a0",
    ]
    assert kept(folder)


def test_files_are_rotated_by_rows(tmp_path: Path) -> None:
    with running(table(tmp_path, rotate_rows=1)) as (store, counts):
        for number in range(3):
            store.put(lambda number=number: row(number))  # type: ignore[misc]
            while counts.rows <= number:
                threading.Event().wait(0.01)
    assert len(kept(tmp_path)) >= 2


def test_the_oldest_files_go_where_there_are_too_many_or_too_old_ones(
    tmp_path: Path,
) -> None:
    names = [f"feedback-2026010{day}T000000000000Z.parquet" for day in (1, 2, 3)]
    for name in names:
        (tmp_path / name).write_bytes(b"x" * 2**20)
    prune(table(tmp_path, most_megabytes=2.5))
    assert [each.name for each in kept(tmp_path)] == names[1:]
    os.utime(tmp_path / names[1], (0, 0))
    prune(table(tmp_path, keep_days=1))
    assert [each.name for each in kept(tmp_path)] == names[2:]


def test_a_disk_that_takes_nothing_loses_rows_and_counts_them(tmp_path: Path) -> None:
    # A file where the folder should be: nothing can be written there, not even by root.
    (tmp_path / "folder").write_text("")
    with running(table(tmp_path / "folder")) as (store, counts):
        store.put(row)
    assert counts.dropped == {"disk": 1}
    assert counts.rows == 0


def test_a_disk_that_hangs_makes_nobody_wait(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(store_module, "_MOST_WAITING", 10)
    hangs = threading.Event()

    def slow_row() -> Row:
        hangs.wait(60)
        return row()

    with running(table(tmp_path)) as (store, counts):
        store.put(slow_row)
        for _ in range(100):
            store.put(row)
        assert counts.dropped["queue"] >= 80
        hangs.set()
    assert counts.rows + counts.dropped["queue"] == 101


def test_rows_that_hold_much_memory_wait_in_small_number(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(store_module, "_MOST_BYTES_WAITING", 1_000)
    with running(table(tmp_path)) as (store, counts):
        store.put(row, size=2_000)
    assert counts.dropped == {"queue": 1}


def test_a_row_that_cannot_be_made_ends_no_other(tmp_path: Path) -> None:
    def broken() -> Row:
        raise KeyError

    with running(table(tmp_path)) as (store, counts):
        store.put(broken)
        store.put(row)
    assert (counts.rows, counts.dropped) == (1, {"row": 1})


def test_a_line_that_a_full_disk_cut_loses_itself_alone(tmp_path: Path) -> None:
    folder = records_folder(tmp_path) / "feedback"
    folder.mkdir(parents=True)
    line = json.dumps({**row(), "time": "2026-11-27T06:00:00.000001Z"})
    other_type = line.replace('"score": 1', '"score": "good"')
    # The row that was written next went on in the half line.
    text = f'{line}\n{{"time": "20{line}\n{other_type}\n{line}\n'
    (folder / JOURNAL).write_text(text)
    assert read_feedback(tmp_path).num_rows == 2
    with running(table(folder)):
        pass
    assert not (folder / JOURNAL).exists()
    assert read_feedback(tmp_path).num_rows == 2


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": [{"content": "x", "note": {"joe@example.com": 1}}]},
        {"messages": {"content": [["joe@example.com"]]}},
        {"messages": [{"content": 4111111111111111}]},
        {"prompt": [4111111111111111]},
        {"prompt": {"text": "joe@example.com", "is": [True, None]}},
    ],
)
def test_no_text_is_kept_unmasked_wherever_a_wrong_request_has_it(
    tmp_path: Path, fields: dict[str, Any]
) -> None:
    observer = Observer(Source())
    log = RequestLog(tmp_path, RequestRecordRules(texts="masked"), observer.metrics)
    observer.add(log)
    exchange = observer.begin(SCOPE)
    exchange.request = json.dumps(fields).encode()
    observer.end(exchange)
    observer.close()
    (kept_row,) = read_requests(tmp_path).to_pylist()
    assert "joe@" not in str(kept_row)
    assert "4111" not in str(kept_row)


def test_what_waits_for_the_disk_holds_no_response_and_no_key() -> None:
    observer = Observer(Source())
    exchange = observer.begin(SCOPE)
    body = {"type": "http.response.body", "body": b"x" * 1_000}
    exchange.take(body)
    observer.end(exchange)
    assert not exchange.response
    assert b"sk-1" not in str(vars(exchange)).encode()


def test_texts_of_ratings_count_among_what_waits(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(store_module, "_MOST_BYTES_WAITING", 1_000)
    metrics = Metrics(Source())
    log = FeedbackLog(tmp_path, Bounds(), metrics)
    rating = Rating(id="chatcmpl-1", score=-1, correction="x" * 2_000)
    log.rate(rating, Origin("m", "3", "f"))
    log.close()
    assert b'reason="queue",store="feedback"} 1.0' in metrics.expose()
