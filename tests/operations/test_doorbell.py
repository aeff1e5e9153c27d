"""The controller's doorbell: who may ring, and what a ring does."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from operations.doorbell import Bell, listening
from registry.release.doorbell import (
    ID,
    SECONDS_OF_VALIDITY,
    SIGNATURE,
    TIMESTAMP,
    address_file,
    bell_secret,
    is_genuine,
    ring,
    sign,
)

KEY = "a secret"
NOW = 1_790_000_000


def delivery(
    timestamp: object = NOW, key: str = KEY, body: bytes = b"{}"
) -> dict[str, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("registry.release.doorbell.time.time", lambda: timestamp)
        return sign(key, body)


def test_the_form_is_that_of_mlflows_webhooks() -> None:
    from mlflow.webhooks.delivery import _generate_hmac_signature

    headers = delivery()
    expected = _generate_hmac_signature(KEY, headers[ID], headers[TIMESTAMP], "{}")
    assert headers[SIGNATURE] == expected


@pytest.mark.parametrize("apart", [0, SECONDS_OF_VALIDITY, -SECONDS_OF_VALIDITY])
def test_a_delivery_is_genuine_within_its_time(apart: int) -> None:
    assert is_genuine(KEY, delivery(), b"{}", NOW + apart)


@pytest.mark.parametrize(
    "change",
    [
        {SIGNATURE: ""},
        {SIGNATURE: "v1,AAAA"},
        {SIGNATURE: "v1,\u00e9"},
        {ID: ""},
        {ID: "other"},
        {ID: "x" * 201},
        {TIMESTAMP: str(NOW + 1)},
        {TIMESTAMP: ""},
        {TIMESTAMP: "nan"},
        {TIMESTAMP: "1" * 400},
        {TIMESTAMP: "１２３"},
        {TIMESTAMP: f" {NOW}"},
    ],
)
def test_a_changed_delivery_is_not_genuine(change: dict[str, str]) -> None:
    assert not is_genuine(KEY, {**delivery(), **change}, b"{}", NOW)


def test_another_body_key_or_time_is_not_genuine() -> None:
    headers = delivery()
    assert not is_genuine(KEY, headers, b"{ }", NOW)
    assert not is_genuine("other", headers, b"{}", NOW)
    assert not is_genuine(KEY, headers, b"{}", NOW + SECONDS_OF_VALIDITY + 1)
    assert not is_genuine(KEY, headers, b"{}", NOW - SECONDS_OF_VALIDITY - 1)
    assert not is_genuine(KEY, {}, b"{}", NOW)


@contextmanager
def door(home: Path) -> Iterator[tuple[Bell, str]]:
    bell = Bell()
    with listening(home, bell):
        url = httpx.URL(_address(home))
        yield bell, f"{url}/doorbell"


def _address(home: Path) -> str:
    import json

    return str(json.loads(address_file(home).read_text())["url"])


def test_a_ring_is_heard_and_a_forged_one_is_not(tmp_path: Path) -> None:
    with door(tmp_path) as (bell, url):
        assert address_file(tmp_path).stat().st_mode & 0o077 == 0
        assert ring(tmp_path)
        assert bell.rings == 1
        forged = sign("not the secret", b"{}")
        with httpx.Client(trust_env=False) as client:
            assert client.post(url, content=b"{}", headers=forged).status_code == 401
            assert client.post(url, content=b"{}").status_code == 401
            assert client.get(url).status_code == 405
            large = b" " * 70_000
            genuine = sign(bell_secret(tmp_path), large)
            assert client.post(url, content=large, headers=genuine).status_code == 401
            # The same delivery again is a ring like any other: it says nothing but "look".
            again = sign(bell_secret(tmp_path), b"{}")
            for _ in range(3):
                answer = client.post(url, content=b"{}", headers=again)
                assert answer.status_code == 204
        assert bell.rings == 4
    assert not ring(tmp_path)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"url": 7}', '{"url": "x"}'])
def test_an_address_that_leads_nowhere_is_no_ring(tmp_path: Path, content: str) -> None:
    address_file(tmp_path).parent.mkdir()
    address_file(tmp_path).write_text(content)
    assert ring(tmp_path) is False


def test_who_waits_goes_on_at_a_ring_at_the_end_and_in_time() -> None:
    bell, stop = Bell(), threading.Event()
    bell.ring()
    began = time.monotonic()
    # A ring that came during the round asks for another one.
    bell.wait(0, stop, 60)
    threading.Timer(0.1, bell.ring).start()
    bell.wait(1, stop, 60)
    bell.wait(2, stop, 0.01)
    threading.Timer(0.1, stop.set).start()
    bell.wait(2, stop, 60)
    assert time.monotonic() - began < 50
