"""A release manager at MLflow's own server, under a real `assay up`.

The alias `release` is refused with every reason, or the version is released; then `champion` moves
by itself and the endpoint answers. By the back door nothing changes that serves.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import httpx
import pytest

from registry.ledger.entries import Wished
from registry.ledger.ledger import open_ledger
from registry.mlflow.accounts import read_passwords
from registry.mlflow.recorded import CHAMPION, RELEASE, RELEASE_REASON
from registry.release.people import FILE
from tests.support.journey import Checkout, copy_checkout
from tests.support.promoted import MODEL, WAIVED, System, system_of, waive
from tests.support.waiting import SECONDS_AT_MOST, wait_until

pytestmark = pytest.mark.ci
WHY = "it answers letters better"
PEOPLE = """\
people:
  manager: {mlflow: [manager], roles: [release_manager]}
  admin: {mlflow: [admin], roles: [auditor]}
command_line: [author, release_manager]
"""


@pytest.fixture(scope="module")
def system(
    recorded: Checkout, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[System]:
    """Version 1 is the only one, judged by nobody yet."""
    site = copy_checkout(recorded, tmp_path_factory.mktemp("wish") / "assay")
    (site.root / FILE).write_text(PEOPLE)
    with system_of(site) as running:
        yield running


class Desk:
    """MLflow's REST interface as one of its users sees it."""

    def __init__(self, system: System, user: str) -> None:
        password = read_passwords(system.checkout.home)[user]
        self._login = (user, password)
        self._url = f"http://127.0.0.1:{system.up.ports.mlflow}/ajax-api/2.0/mlflow"

    def ask(self, method: str, path: str, **body: Any) -> httpx.Response:
        return httpx.request(
            method,
            f"{self._url}/{path}",
            json=body,
            auth=self._login,
            timeout=SECONDS_AT_MOST,
            trust_env=False,
        )

    def set_alias(self, alias: str, version: str = "1") -> httpx.Response:
        return self.ask(
            "POST",
            "registered-models/alias",
            name=MODEL,
            alias=alias,
            version=version,
        )

    def set_tag(self, key: str, value: str) -> httpx.Response:
        return self.ask(
            "POST",
            "model-versions/set-tag",
            name=MODEL,
            version="1",
            key=key,
            value=value,
        )


def kinds(system: System) -> list[str]:
    return [entry.body.kind for entry in open_ledger(system.checkout.home).entries()]


def holder(system: System, alias: str) -> str | None:
    version = system.checkout.store.holder(MODEL, alias)
    return None if version is None else version.version


def begins(system: System, words: str) -> None:
    """The version's page begins so, within a round or two of the controller."""

    def is_so() -> bool:
        (version,) = system.checkout.versions()
        return str(version.description).startswith(words)

    wait_until(is_so, SECONDS_AT_MOST, system.logs)


def refuses(answer: httpx.Response, *words: str) -> str:
    assert answer.status_code == 403, answer.text
    sentence = str(answer.json()["message"])
    for word in words:
        assert word in sentence, sentence
    return sentence


def test_a_release_manager_is_refused_with_every_reason_then_released(
    system: System,
) -> None:
    before = kinds(system)
    manager = Desk(system, "manager")
    refuses(manager.set_alias(RELEASE), "set the tag `release_reason`")
    assert kinds(system) == before
    assert manager.set_tag(RELEASE_REASON, WHY).status_code == 200
    refuses(
        manager.set_alias(RELEASE),
        "Version 1 of letters-tiny is undecided by judge",
        "0 people rated the answers, the policy asks for 3",
        "the policy asks for 1",
    )
    assert kinds(system)[len(before) :] == ["wished", "judged", "wish_closed"]
    assert (holder(system, RELEASE), holder(system, CHAMPION)) == (None, None)
    begins(system, "**Version 1 of letters-tiny is not yet fit for release: ")
    for rule in WAIVED:
        waive(system.checkout, rule)
    assert manager.set_alias(RELEASE).status_code == 200
    model = system.settled()
    assert model.current is not None
    assert (model.current.release.version, model.current.by) == ("1", "manager")
    assert (holder(system, RELEASE), holder(system, CHAMPION)) == ("1", "1")
    ledger = open_ledger(system.checkout.home)
    assert ledger.recall(model.current.reason_sha256) == WHY
    wishes = [each.body for each in ledger.entries() if isinstance(each.body, Wished)]
    assert {(wish.by, wish.account) for wish in wishes} == {
        ("manager", "mlflow:manager")
    }
    answer = system.answer()
    assert answer.json()["system_fingerprint"] == model.current.release.fingerprint
    # Said once for one wish; the next one says its own reason.
    (version,) = system.checkout.versions()
    assert RELEASE_REASON not in version.tags
    begins(system, "**Version 1 of letters-tiny serves**, released by manager on ")
    (version,) = system.checkout.versions()
    assert "wish refused letters-tiny 1" in version.description
    # What the run said of it is still there.
    assert "Passed screen" in version.description


@pytest.mark.parametrize(
    ("user", "alias", "words"),
    [
        ("manager", CHAMPION, "moved by the account 'assay' alone"),
        ("manager", "challenger", "moved by the account 'assay' alone"),
        ("manager", "Release", "Write the alias as release"),
        ("manager", "ｒelease", "in letters of ASCII"),
        ("manager", "r\u0435lease", "in letters of ASCII"),
        ("admin", RELEASE, "admin is no release manager of this project. Ask manager"),
        ("admin", "anchor", "admin is no release manager of this project"),
    ],
)
def test_other_aliases_and_other_people_are_refused(
    system: System, user: str, alias: str, words: str
) -> None:
    before = kinds(system)
    refuses(Desk(system, user).set_alias(alias), words)
    assert kinds(system) == before


def test_an_alias_of_ones_own_may_move(system: System) -> None:
    assert Desk(system, "manager").set_alias("looked-at").status_code == 200


@pytest.mark.parametrize(
    ("alias", "words"),
    [
        (RELEASE, "What was released last goes on answering"),
        (CHAMPION, "says what has full traffic"),
        ("CHAMPION", "says what has full traffic"),
    ],
)
def test_no_alias_is_taken_away(system: System, alias: str, words: str) -> None:
    answer = Desk(system, "admin").ask(
        "DELETE", "registered-models/alias", name=MODEL, alias=alias
    )
    refuses(answer, words)


def test_an_alias_that_moved_by_the_back_door_is_put_back_and_serves_nothing(
    system: System,
) -> None:
    """Taken away where it was released, and set on an unjudged version where it was not."""
    released = holder(system, RELEASE)
    before = kinds(system)
    edit_aliases(system, RELEASE, "1" if released is None else None)
    wait_until(lambda: holder(system, RELEASE) == released, SECONDS_AT_MOST, str)
    assert kinds(system) == before
    answer = system.answer()
    assert answer.status_code == (404 if released is None else 200)


def edit_aliases(system: System, alias: str, version: str | None) -> None:
    """What somebody does who can write MLflow's database."""
    path = system.checkout.home / "mlflow.db"
    with closing(sqlite3.connect(path, timeout=SECONDS_AT_MOST)) as database, database:
        database.execute(
            "DELETE FROM registered_model_aliases WHERE name = ? AND alias = ?",
            (MODEL, alias),
        )
        if version is not None:
            database.execute(
                "INSERT INTO registered_model_aliases (name, alias, version, workspace)"
                " VALUES (?, ?, ?, 'default')",
                (MODEL, alias, version),
            )
