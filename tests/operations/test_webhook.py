"""MLflow rings the controller by a webhook of its own, which follows the doorbell's address."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from mlflow import MlflowClient

from core.environment import set_library_environment
from operations.doorbell import Bell, listening
from operations.webhook import WebhookDuty
from registry.mlflow.accounts import read_passwords, service_login
from registry.mlflow.store import Store
from registry.mlflow.webhooks import EVENTS, webhook_name
from registry.release.doorbell import address_file, bell_secret
from tests.support.guarded_server import guarded_server
from tests.support.waiting import SECONDS_AT_MOST, wait_until

MODEL = "letters"
FOREIGN = "http://127.0.0.1:9/doorbell"


@pytest.fixture(scope="module")
def site(
    empty_mlflow: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, str]]:
    """MLflow's server of a home, and this process as the service account."""
    set_library_environment()
    home = tmp_path_factory.mktemp("rung") / "home"
    home.mkdir()
    (home / "mlflow.db").write_bytes(empty_mlflow.read_bytes())
    # A version without files, which no server would take.
    records = f"sqlite:///{home / 'mlflow.db'}"
    client = MlflowClient(records, records)
    client.create_registered_model(MODEL)
    client.create_model_version(MODEL, "nowhere")
    with guarded_server(home) as url, pytest.MonkeyPatch.context() as patch:
        for name, text in service_login(home).items():
            patch.setenv(name, text)
        yield home, url


@pytest.fixture
def store(site: tuple[Path, str], tmp_path: Path) -> Store:
    """Of a server that keeps no webhook yet."""
    client = MlflowClient(site[1], site[1])
    for webhook in client.list_webhooks():
        client.delete_webhook(webhook.webhook_id)
    return Store(site[1], tmp_path)


def hooks(url: str) -> list[tuple[str, str]]:
    client = MlflowClient(url, url)
    return [(each.name, each.url) for each in client.list_webhooks()]


def own_address(home: Path) -> str:
    document = json.loads(address_file(home).read_text(encoding="utf-8"))
    return f"{document['url']}/doorbell"


@pytest.mark.ci
def test_a_tag_in_mlflow_rings_and_a_restarted_controller_is_rung_at_its_new_address(
    site: tuple[Path, str], store: Store
) -> None:
    home, url = site
    foreign = MlflowClient(url, url).create_webhook(
        "assay-doorbell-of-another-home", FOREIGN, list(EVENTS)
    )
    name = webhook_name(bell_secret(home))
    addresses = [_address_that_rings(home, url, store) for _ in range(2)]
    assert addresses[0] != addresses[1]
    assert sorted(hooks(url)) == sorted([(foreign.name, FOREIGN), (name, addresses[1])])


def _address_that_rings(home: Path, url: str, store: Store) -> str:
    """Of a controller that starts, is rung by a tag that somebody sets, and ends."""
    bell, duty = Bell(), WebhookDuty(home)
    with listening(home, bell):
        (sentence,) = duty.keep(store)
        assert "rings the controller" in sentence
        assert duty.keep(store) == ()

        def rings() -> bool:
            # MLflow remembers webhooks for a while, so it is asked until it rings.
            client = MlflowClient(url, url)
            client.set_model_version_tag(MODEL, "1", "seen", "yes")
            return bell.rings > 0

        wait_until(rings, said=lambda: hooks(url))
        return own_address(home)


def test_a_webhook_that_was_changed_doubled_or_deleted_is_put_right(
    site: tuple[Path, str], store: Store
) -> None:
    home, url = site
    client = MlflowClient(url, url)
    with listening(home, Bell()):
        WebhookDuty(home).keep(store)
        name, address = webhook_name(bell_secret(home)), own_address(home)
        (kept,) = client.list_webhooks()
        client.update_webhook(kept.webhook_id, url=FOREIGN, status="DISABLED")
        client.create_webhook(name, FOREIGN, ["model_version.created"])
        WebhookDuty(home).keep(store)
        (kept,) = client.list_webhooks()
        assert (kept.url, str(kept.status)) == (address, "ACTIVE")
        assert {str(event) for event in kept.events} == set(EVENTS)
        client.delete_webhook(kept.webhook_id)
        WebhookDuty(home).keep(store)
        assert hooks(url) == [(name, address)]


@pytest.mark.parametrize("user", ["admin", "manager", "scientist"])
def test_nobody_else_has_the_server_ask_an_address(
    site: tuple[Path, str], store: Store, user: str
) -> None:
    home, url = site
    with listening(home, Bell()):
        WebhookDuty(home).keep(store)
    (kept,) = MlflowClient(url, url).list_webhooks()
    login = (user, read_passwords(home)[user])
    path = f"{url}/api/2.0/mlflow/webhooks"
    events = [{"entity": "MODEL_VERSION", "action": "CREATED"}]
    body = {"name": "inside", "url": FOREIGN, "events": events}
    with httpx.Client(auth=login, trust_env=False, timeout=SECONDS_AT_MOST) as client:
        answers = [
            client.post(path, json=body),
            client.patch(f"{path}/{kept.webhook_id}", json={"url": FOREIGN}),
            client.delete(f"{path}/{kept.webhook_id}"),
        ]
    # MLflow lets an admin try one that is there: it rings the doorbell, which says nothing.
    assert [answer.status_code for answer in answers] == [403] * 3
    assert hooks(url) == [(kept.name, kept.url)]


def test_a_server_that_is_away_or_elsewhere_costs_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = Store("http://mlflow.invalid", tmp_path)
    duty = WebhookDuty(tmp_path)
    (sentence,) = duty.keep(elsewhere)
    assert "ASSAY_DOORBELL_URL" in sentence
    assert duty.keep(elsewhere) == ()
    assert WebhookDuty(tmp_path).keep(Store("sqlite:///x.db", tmp_path)) == ()
    monkeypatch.setenv("ASSAY_DOORBELL_URL", "https://bell.invalid/doorbell")
    monkeypatch.setattr("registry.mlflow.calls.ATTEMPTS", 1, raising=False)
    away = Store("http://127.0.0.1:9", tmp_path)
    duty = WebhookDuty(tmp_path)
    (sentence,) = duty.keep(away)
    assert sentence.startswith("MLflow keeps no webhook for Assay:")
    assert duty.keep(away) == ()
