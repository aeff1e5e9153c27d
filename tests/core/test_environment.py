"""A proxy of the person's is for other machines, whichever library asks."""

import os

import httpx
import pytest
from requests.utils import get_environ_proxies

from core.environment import set_library_environment

_PROXY = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def _behind_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, _PROXY)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "")


def passes_by(url: str) -> tuple[bool, bool]:
    """Whether requests (MLflow) and httpx (Prefect) ask that address without the proxy."""
    with httpx.Client() as client:
        return get_environ_proxies(url, no_proxy=None) == {}, client._transport_for_url(
            httpx.URL(url)
        ) is client._transport


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:5000/health", "http://localhost:4200/api"]
)
def test_this_machine_is_asked_without_the_proxy(url: str) -> None:
    assert passes_by(url) == (False, False)
    set_library_environment()
    assert passes_by(url) == (True, True)


def test_another_host_is_asked_through_the_proxy() -> None:
    set_library_environment()
    assert passes_by("https://mlflow.example.com/api") == (False, False)


@pytest.mark.parametrize("name", ["no_proxy", "NO_PROXY"])
def test_what_the_person_excepted_stays_excepted_under_either_name(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "inner.example.com, localhost")
    set_library_environment()
    set_library_environment()
    assert (
        os.environ["no_proxy"]
        == os.environ["NO_PROXY"]
        == "inner.example.com,localhost,127.0.0.1,::1"
    )
    assert passes_by("https://inner.example.com") == (True, True)


def test_a_star_that_excepts_every_host_stays_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    set_library_environment()
    assert (os.environ["no_proxy"], os.environ["NO_PROXY"]) == ("*", "*")
