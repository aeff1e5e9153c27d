"""A notice is kept always, sent where an address is, and never fails what had something to tell."""

import json
from pathlib import Path

import pytest

from core.notify import notices, notify
from tests.support.deployments import receiver


@pytest.fixture(autouse=True)
def _nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ASSAY_NOTIFY", raising=False)


def test_a_notice_arrives_at_every_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with receiver() as (one, first), receiver() as (other, second):
        monkeypatch.setenv("ASSAY_NOTIFY", f"{one} {other}")
        assert notify(tmp_path, "a title", "a text").is_sent is True
    for (message,) in (first, second):
        assert (message["title"], message["message"]) == ("a title", "a text")


def test_without_an_address_it_is_kept_all_the_same(tmp_path: Path) -> None:
    assert notify(tmp_path, "a title", "zwei\nZeilen").is_sent is None
    (kept,) = notices(tmp_path)
    assert (kept.title, kept.text) == ("a title", "zwei\nZeilen")
    assert (tmp_path / "notices.jsonl").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "address",
    [
        "json://127.0.0.1:9",
        "nonsense://",
        "not an address",
        "json://user:secret@127.0.0.1:9/?cto=1",
    ],
)
def test_a_dead_or_misspelt_address_fails_nothing_and_is_said(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    address: str,
) -> None:
    monkeypatch.setenv("ASSAY_NOTIFY", address)
    assert notify(tmp_path, "a title", "a text").is_sent is False
    assert notices(tmp_path)[-1].is_sent is False
    assert "secret" not in caplog.text + (tmp_path / "notices.jsonl").read_text()


def test_one_dead_address_does_not_keep_it_from_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with receiver() as (address, received):
        monkeypatch.setenv("ASSAY_NOTIFY", f"json://127.0.0.1:9 {address}")
        assert notify(tmp_path, "a title", "a text").is_sent is False
    assert len(received) == 1


def test_what_is_not_worth_a_message_is_kept_and_not_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with receiver() as (address, received):
        monkeypatch.setenv("ASSAY_NOTIFY", address)
        assert notify(tmp_path, "a title", "a text", sends=False).is_sent is None
    assert received == []
    assert len(notices(tmp_path)) == 1


def test_a_half_written_line_is_left_out(tmp_path: Path) -> None:
    notify(tmp_path, "first", "")
    with (tmp_path / "notices.jsonl").open("a") as lines:
        lines.write('{"at": "2026\n' + json.dumps({"other": 1}) + "\n")
    notify(tmp_path, "last", "")
    assert [notice.title for notice in notices(tmp_path)] == ["first", "last"]


def test_a_home_that_cannot_be_written_to_fails_nothing(tmp_path: Path) -> None:
    (tmp_path / "notices.jsonl").mkdir()
    notify(tmp_path, "a title", "a text")
