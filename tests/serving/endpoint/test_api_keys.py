"""Who may call the endpoint, and how much."""

import asyncio
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core.errors import ServingError
from pipelines.engines.refusal import Refusal
from serving.endpoint.api_keys import (
    FILE,
    ApiKeyBook,
    create_key,
    list_keys,
    revoke_key,
)
from serving.endpoint.keyed_app import TENANT, KeyedApp
from serving.endpoint.quotas import Quotas
from tests.support.commands import assay_in


async def _answers_nobody(_scope: Scope, receive: Receive, _send: Send) -> None:
    """Reads a request whose client leaves before there is an answer."""
    while (await receive()).get("more_body"):
        pass


async def _fails(_scope: Scope, receive: Receive, _send: Send) -> None:
    await receive()
    raise ZeroDivisionError


async def _tells_tenant(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers who asks, and that it took ten tokens."""
    usage = {"prompt_tokens": 6, "completion_tokens": 4, "total_tokens": 10}
    response = JSONResponse({"tenant": scope.get(TENANT), "usage": usage})
    await response(scope, receive, send)


class Door:
    """An app with keys in front of it, and who asks it."""

    def __init__(self, home: Path, *, always_asks: bool = False) -> None:
        book = ApiKeyBook(home, always_asks=always_asks)
        self.refused: list[tuple[str, int]] = []
        self._app = KeyedApp(_tells_tenant, book, self._count)

    def _count(self, path: str, refusal: Refusal) -> None:
        self.refused.append((path, refusal.status))

    def ask(self, *keys: str, path: str = "/v1/models") -> list[httpx.Response]:
        """One request for each key, one after the other; an empty one sends none."""
        return asyncio.run(self._ask(keys, path))

    async def _ask(self, keys: tuple[str, ...], path: str) -> list[httpx.Response]:
        transport = httpx.ASGITransport(self._app)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://localhost"
        ) as client:
            return [await client.get(path, headers=_header(key)) for key in keys]


def _header(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"} if key else {}


def statuses(responses: list[httpx.Response]) -> list[int]:
    return [response.status_code for response in responses]


def error_of(response: httpx.Response) -> dict[str, Any]:
    error: dict[str, Any] = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


def test_without_any_key_nobody_is_asked_for_one(tmp_path: Path) -> None:
    [none, some] = Door(tmp_path).ask("", "none")
    assert none.json()["tenant"] == some.json()["tenant"] == ""


def test_once_there_is_a_key_it_alone_opens_and_a_revoked_one_does_not(
    tmp_path: Path,
) -> None:
    door = Door(tmp_path)
    assert statuses(door.ask("")) == [200]
    made = create_key(tmp_path, "ann")
    wrong = made.text[:-1] + ("a" if made.text[-1] != "a" else "b")
    answers = door.ask(made.text, "", wrong, "none", made.text.upper())
    assert statuses(answers) == [200, 401, 401, 401, 401]
    assert answers[0].json()["tenant"] == made.key.id
    assert error_of(answers[1])["code"] == "invalid_api_key"
    assert answers[1].headers["www-authenticate"] == "Bearer"
    revoke_key(tmp_path, made.key.id)
    # The last key is gone, and still nobody comes in without one.
    assert statuses(door.ask(made.text, "")) == [401, 401]


def test_health_is_told_to_everybody_and_nothing_else_is(tmp_path: Path) -> None:
    door = Door(tmp_path, always_asks=True)
    # The page itself says nothing of anybody; what it asks needs a key.
    for path in ("/", "/healthz", "/readyz", "/openapi.json"):
        assert statuses(door.ask("", path=path)) == [200]
    closed = ("/v1/models", "/v1/chat/completions", "/v1/completions", "/v1/feedback")
    for path in (*closed, "/metrics", "/x", "/healthz/"):
        assert statuses(door.ask("", path=path)) == [401]


def test_the_home_holds_no_key_that_opens_anything(tmp_path: Path) -> None:
    made = create_key(tmp_path, "ann")
    file = tmp_path / FILE
    secret = made.text.rpartition("_")[2]
    assert secret not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    # Whoever reads the file can send nothing of it.
    digest = json.loads(file.read_text())["keys"][0]["sha256"]
    forged = f"assay_{made.key.id}_{digest}"
    assert statuses(Door(tmp_path).ask(forged)) == [401]


def test_keys_that_cannot_be_read_let_nobody_in(tmp_path: Path) -> None:
    made = create_key(tmp_path, "ann")
    (tmp_path / FILE).write_text("{")
    [response] = Door(tmp_path).ask(made.text)
    assert response.status_code == 503
    assert error_of(response)["code"] == "keys_unreadable"


def test_once_there_was_a_key_a_file_that_is_lost_lets_nobody_in(
    tmp_path: Path,
) -> None:
    door = Door(tmp_path)
    made = create_key(tmp_path, "ann")
    assert statuses(door.ask(made.text)) == [200]
    (tmp_path / FILE).unlink()
    assert statuses(door.ask(made.text, "")) == [401, 401]


def test_a_key_that_nobody_knows_is_not_revoked(tmp_path: Path) -> None:
    with pytest.raises(ServingError, match="api-keys list"):
        revoke_key(tmp_path, "00000000")
    assert list_keys(tmp_path) == ()


def test_requests_over_a_minutes_number_are_told_when_to_come_again(
    tmp_path: Path,
) -> None:
    few = create_key(tmp_path, "few", requests_per_minute=2)
    many = create_key(tmp_path, "many")
    answers = Door(tmp_path).ask(few.text, few.text, few.text, many.text)
    assert statuses(answers) == [200, 200, 429, 200]
    assert 1 <= int(answers[2].headers["retry-after"]) <= 60
    error = error_of(answers[2])
    assert (error["type"], error["code"]) == (
        "rate_limit_error",
        "rate_limit_exceeded",
    )


def test_tokens_of_a_day_are_counted_by_what_answers_took(tmp_path: Path) -> None:
    made = create_key(tmp_path, "ann", tokens_per_day=15)
    answers = Door(tmp_path).ask(*[made.text] * 3)
    assert statuses(answers) == [200, 200, 429]
    assert int(answers[2].headers["retry-after"]) > 3600
    assert "15 tokens a day" in error_of(answers[2])["message"]


@pytest.mark.parametrize(("tokens_per_day", "most"), [(1, 16), (None, 30)])
def test_a_budget_is_gone_beyond_by_no_more_than_a_few_answers_at_once(
    tmp_path: Path, tokens_per_day: int | None, most: int
) -> None:
    key = create_key(tmp_path, "ann", tokens_per_day=tokens_per_day).key

    async def ask_at_once() -> None:
        quotas = Quotas()
        begun = [quotas.begin_request(key) for _ in range(30)]
        outcomes = await asyncio.gather(*begun, return_exceptions=True)
        refused = [each for each in outcomes if isinstance(each, Refusal)]
        assert len(outcomes) - len(refused) == most
        assert {each.status for each in refused} <= {429}
        assert {each.retry_after for each in refused} <= {1}
        # One that has ended without a token leaves its place, and no other one.
        await quotas.end_request(key, 0)
        await quotas.begin_request(key)
        for _ in range(most):
            await quotas.end_request(key, 5)
        if tokens_per_day is None:
            return
        # Places are free, and tokens are not: a request that is refused takes no place.
        for _ in range(20):
            with pytest.raises(Refusal, match="tokens a day"):
                await quotas.begin_request(key)

    asyncio.run(ask_at_once())


def test_who_guesses_keys_is_slowed_down_and_who_has_one_is_not(
    tmp_path: Path,
) -> None:
    made = create_key(tmp_path, "ann")
    guesses = [f"assay_{made.key.id}_{number}" for number in range(25)]
    answers = Door(tmp_path).ask(*guesses, made.text, "")
    assert statuses(answers) == [*[401] * 20, *[429] * 5, 200, 401]


def test_a_key_is_found_by_the_form_in_which_clients_send_it(tmp_path: Path) -> None:
    made = create_key(tmp_path, "ann")
    book = ApiKeyBook(tmp_path, always_asks=False)
    for right in (f"Bearer {made.text}", f"bearer  {made.text}"):
        assert book.find(right) == made.key
    for wrong in (made.text, f"Basic {made.text}", "Bearer", "Bearer ", "", "Bearer ü"):
        with pytest.raises(Refusal) as refusal:
            book.find(wrong)
        assert refusal.value.status == 401


def test_the_command_line_makes_lists_and_revokes_keys(tmp_path: Path) -> None:
    limits = ("--requests-per-minute", "5", "--tokens-per-day", "900")
    made = assay_in(tmp_path, "api-keys", "create", "ann", *limits)
    text = made.stdout.strip().splitlines()[0]
    [key] = list_keys(tmp_path)
    assert text.startswith(f"assay_{key.id}_")
    assert (key.requests_per_minute, key.tokens_per_day) == (5, 900)
    listed = assay_in(tmp_path, "api-keys", "list").stdout
    assert key.id in listed
    assert text not in listed
    assert statuses(Door(tmp_path).ask(text)) == [200]
    assert "is revoked" in assay_in(tmp_path, "api-keys", "revoke", key.id).stdout
    assert statuses(Door(tmp_path).ask(text)) == [401]


def test_every_refusal_is_told_to_whoever_counts(tmp_path: Path) -> None:
    made = create_key(tmp_path, "ann", requests_per_minute=1)
    door = Door(tmp_path)
    door.ask("", "guessed", made.text, made.text)
    assert door.refused == [("/v1/models", status) for status in (401, 401, 429)]


WHOLE = ({"body": b"x" * 400, "more_body": True}, {"body": b"y"})
HALF = ({"body": b"x" * 400, "more_body": True},)


@pytest.mark.parametrize(
    ("app", "body", "budget", "is_used_up"),
    [
        # A quarter of 401 bytes, rounded up.
        (_answers_nobody, WHOLE, 101, True),
        (_answers_nobody, WHOLE, 102, False),
        # It left in the middle of its request: no engine was asked.
        (_answers_nobody, HALF, 1, False),
        # That is no fault of the client's.
        (_fails, WHOLE, 1, False),
    ],
)
def test_a_client_that_leaves_before_any_answer_pays_for_its_prompt(
    tmp_path: Path,
    app: ASGIApp,
    body: tuple[dict[str, Any], ...],
    budget: int,
    is_used_up: bool,
) -> None:
    key = create_key(tmp_path, "ann", tokens_per_day=budget).text
    keyed = KeyedApp(app, ApiKeyBook(tmp_path, always_asks=False))

    async def ask(*pieces: dict[str, Any]) -> list[Message]:
        """What is sent to a client that sends that, and leaves."""
        coming = [{"type": "http.request", **piece} for piece in pieces]
        coming.append({"type": "http.disconnect"})
        sent: list[Message] = []

        async def receive() -> Message:
            return coming.pop(0)

        async def send(message: Message) -> None:
            sent.append(message)

        authorization = (b"authorization", f"Bearer {key}".encode())
        scope = {
            "type": "http",
            "path": "/v1/completions",
            "headers": [authorization],
        }
        with suppress(ZeroDivisionError):
            await keyed(scope, receive, send)
        return sent

    async def ask_twice() -> list[Message]:
        assert await ask(*body) == []
        return await ask()

    told = asyncio.run(ask_twice())
    assert [each["status"] for each in told[:1]] == [429] * is_used_up
