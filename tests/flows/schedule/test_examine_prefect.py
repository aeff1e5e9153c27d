"""What is said of a Prefect that cannot be used, by servers that answer as one would."""

from collections.abc import Callable

import pytest

from core.errors import AssayError
from flows.schedule.examine_prefect import examine_prefect
from tests.support.impostors import Reply, Request, answering, reply

_PAGE = Reply(200, b"<!doctype html><title>Prefect</title>", "text/html")


class Prefect:
    """As much of Prefect as is asked: one thing of it may be otherwise."""

    def __init__(self, **otherwise: Reply) -> None:
        self._otherwise = otherwise

    def __call__(self, request: Request) -> Reply:
        for name, path, usual in (
            ("flows", "/flows/filter", reply(200, [])),
            ("version", "/admin/version", reply(200, "3.8.8")),
            ("health", "/health", reply(200, True)),
        ):
            if request.path == f"/api{path}":
                return self._otherwise.get(name, usual)
        return self._otherwise.get("rest", reply(404, {"detail": "Not Found"}))


def said_of(
    monkeypatch: pytest.MonkeyPatch,
    answer: Callable[[Request], Reply],
    path: str = "/api",
) -> tuple[str, list[Request]]:
    """The sentence on a server that answers so, whether it is an error or not."""
    with answering(answer) as (url, asked):
        monkeypatch.setenv("PREFECT_API_URL", url + path)
        try:
            return examine_prefect() or "", asked
        except AssayError as error:
            return f"problem: {error}", asked


@pytest.fixture(autouse=True)
def _no_login(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_AUTH_STRING", raising=False)


@pytest.mark.parametrize("path", ["/api", "/api/"])
def test_one_that_is_well_is_named_with_its_version(
    monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    said, asked = said_of(monkeypatch, Prefect(), path)
    assert said.endswith(f"{path}, version 3.8.8")
    # Reading alone: a filter is a POST in Prefect.
    assert {each.path for each in asked} == {"/api/flows/filter", "/api/admin/version"}


def test_one_that_keeps_its_version_to_itself_will_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said, _ = said_of(monkeypatch, Prefect(version=reply(404, {})))
    assert said.endswith("which does not say its version")


@pytest.mark.parametrize(
    ("otherwise", "fact"),
    [
        ({"flows": reply(401, {})}, "wants a login (401). Set PREFECT_API_AUTH_STRING"),
        (
            {"flows": reply(403, {})},
            "does not allow this account what Assay needs (403)",
        ),
        ({"flows": reply(500, {})}, "fails (500)"),
        ({"flows": reply(200, {})}, "is not Prefect (200, application/json)"),
        ({"flows": _PAGE}, "is not Prefect (200, a page, perhaps one to log in)"),
        (
            {"flows": Reply(307, location="/login?token=secret-9")},
            "/login (307), perhaps a page to log in",
        ),
        (
            {"version": reply(200, "2.20.4")},
            "is version 2.20.4, and Assay needs Prefect",
        ),
        ({"version": reply(200, "3.7.9")}, "is version 3.7.9, and Assay needs Prefect"),
        ({"version": reply(200, "4.0")}, "is version 4.0, and Assay needs Prefect"),
        ({"version": reply(200, "")}, "is version , and Assay needs Prefect"),
    ],
)
def test_each_fault_is_one_sentence_with_the_next_step(
    monkeypatch: pytest.MonkeyPatch, otherwise: dict[str, Reply], fact: str
) -> None:
    said, _ = said_of(monkeypatch, Prefect(**otherwise))
    assert said.startswith("problem: ")
    assert fact in said
    assert "secret-9" not in said


@pytest.mark.parametrize("rest", [reply(404, {}), _PAGE, Reply(405)])
def test_an_address_without_api_is_given_with_it(
    monkeypatch: pytest.MonkeyPatch, rest: Reply
) -> None:
    said, asked = said_of(monkeypatch, Prefect(rest=rest), path="/")
    host = asked and said.partition("PREFECT_API_URL to ")[2]
    assert str(host).endswith("/api.")
    assert "has its API one level lower" in said


@pytest.mark.parametrize(
    ("setting", "text", "header"),
    [
        ("PREFECT_API_AUTH_STRING", "kim:pa55word-9", "Basic a2ltOnBhNTV3b3JkLTk="),
        ("PREFECT_API_KEY", "pnu_pa55word-9", "Bearer pnu_pa55word-9"),
    ],
)
def test_it_logs_in_as_prefects_client_does(
    monkeypatch: pytest.MonkeyPatch, setting: str, text: str, header: str
) -> None:
    monkeypatch.setenv(setting, text)
    said, asked = said_of(monkeypatch, Prefect(flows=reply(401, {})))
    assert [each.authorization for each in asked] == [header]
    assert "does not know this login (401)" in said
    assert "pa55word" not in said


@pytest.mark.parametrize(
    ("address", "fact"),
    [
        ('"http://127.0.0.1:4200/api"', "begins or ends with a quote or a space"),
        ("http://127.0.0.1:4200/ api", "holds a space"),
        ("127.0.0.1:4200/api", "has no http:// or https:// in front"),
        ("ftp://127.0.0.1/api", "does not begin with http:// or https://"),
    ],
)
def test_a_slip_in_the_address_is_named(
    monkeypatch: pytest.MonkeyPatch, address: str, fact: str
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", address)
    with pytest.raises(AssayError, match=f"^PREFECT_API_URL {fact}"):
        examine_prefect()
