"""When an endpoint that answers asks to be left alone, and which endpoint is a replica."""

import pytest

from core.errors import AssayError, LedgerError, ServingError
from core.settings import Settings
from serving.endpoint.readiness import describe_solitude, seconds_ready_alone
from serving.endpoint.registration import registration_of


@pytest.mark.parametrize("text", ["0", "5", "120"])
def test_seconds_within_bounds_are_taken(text: str) -> None:
    assert seconds_ready_alone(Settings(unready_after=text)) == int(text)


@pytest.mark.parametrize("text", ["4", "121", "-1", "1.5", "soon", "٣٠", "9" * 4000])
def test_seconds_out_of_bounds_end_the_start(text: str) -> None:
    with pytest.raises(ServingError, match="ASSAY_UNREADY_AFTER"):
        seconds_ready_alone(Settings(unready_after=text))


def test_an_endpoint_that_hears_nothing_is_unready_only_where_that_is_asked_for() -> (
    None
):
    assert describe_solitude(float("inf"), 0) == ""
    assert describe_solitude(30, 30) == ""
    assert "over 30 s nothing is known" in describe_solitude(30.1, 30)


def test_without_a_name_an_endpoint_is_no_replica() -> None:
    assert registration_of(0) is None


@pytest.mark.parametrize(
    ("name", "url", "error", "sentence"),
    [
        ("pod-1", "", LedgerError, "a SQLite file is of one machine"),
        ("pod-1", "sqlite:////x/ledger.db", LedgerError, "Set ASSAY_LEDGER_URL"),
        ("pod 1", "postgresql://a@h/l", ServingError, "letters, digits, dots"),
        ("p" * 254, "postgresql://a@h/l", ServingError, "ASSAY_REPLICA is"),
    ],
)
def test_what_cannot_be_a_replica_does_not_start(
    name: str,
    url: str,
    error: type[AssayError],
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ASSAY_REPLICA", name)
    monkeypatch.setenv("ASSAY_LEDGER_URL", url)
    with pytest.raises(error, match=sentence):
        registration_of(0)
