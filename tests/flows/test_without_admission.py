"""An MLflow that takes no plug-in: `release` is put back there, or is a wish of nobody known."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import get_args

import pytest

from core.account import UNKNOWN_ACCOUNT
from core.errors import ParameterError, ReleaseError
from core.project import Project
from core.roles import PersonRole
from flows.admission_there import PUT_BACK, TAKEN, AdmissionThere, lacks_admission
from flows.alias_wishes import AliasWishes
from flows.release_alias import put_releases_back
from flows.wishes import answer_wish
from operations.admission_check import sentences_about
from operations.adopt import adopt
from registry.ledger.entries import Wished
from registry.ledger.ledger import Ledger, open_ledger
from registry.mlflow.desk import Desk
from registry.mlflow.recorded import PACKAGE, RELEASE, RELEASE_NOTE, RELEASE_REASON
from registry.mlflow.store import Store
from registry.release.context import ChangeRequest, attribute
from registry.release.granting import goes_back, stops
from registry.release.people import FILE, read_people
from registry.release.wishing import is_of_nobody_known
from tests.support.ledgers import (
    MODEL,
    begun,
    complete_release,
    judged,
    package,
    registered,
    write,
)

ALLOWED = """\
people:
  ann: {mlflow: [ann], roles: [release_manager, approver]}
without_admission: [release_manager]
"""


class Answers(BaseHTTPRequestHandler):
    """What a server says to the question, whoever asks."""

    status, body = 404, b""

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Answers]]:
    answers = type("Given", (Answers,), {})
    with HTTPServer(("127.0.0.1", 0), answers) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{listening.server_address[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
        yield answers
        listening.shutdown()


class Site:
    """A ledger with version 1, an MLflow that has it, and what somebody does there."""

    def __init__(self, root: Path, mlflow: Path) -> None:
        self.project = Project(root=root, home=root / "home")
        self.project.home.mkdir()
        database = root / "mlflow.db"
        database.write_bytes(mlflow.read_bytes())
        self.store = Store(f"sqlite:///{database}", locks=root / "locks")
        self.ledger: Ledger = open_ledger(self.project.home)
        write(self.ledger, registered())
        self.client = self.store.runs._mlflow.client
        self.client.create_registered_model(MODEL)
        self.client.create_model_version(
            MODEL, "s3://somewhere/1", tags={PACKAGE: package("1")}
        )
        self.there = AdmissionThere(self.project)
        self.aliases = AliasWishes(self.project, self.there)

    def set_alias(self, version: str = "1") -> None:
        self.client.set_registered_model_alias(MODEL, RELEASE, version)

    def begin(self, version: str) -> int:
        """Register, judge and begin to release one; version 1 is registered."""
        if version != "1":
            write(self.ledger, registered(version))
        held = self.ledger.state().registration(MODEL, version)
        assert held is not None
        verdict = judged(
            version,
            registration=held.generation,
            adapter_sha256=held.made.adapter_sha256,
        )
        return write(self.ledger, begun(write(self.ledger, verdict), version))

    def release(self, version: str) -> None:
        complete_release(self.ledger, self.begin(version))

    def take(self) -> tuple[str, ...]:
        return self.aliases.take(self.store, self.ledger)

    def put_back(self) -> tuple[str, ...]:
        state = self.ledger.state()
        moved = put_releases_back(self.store, state, self.there.sentence)
        if moved:
            self.aliases.forget_moved(self.store)
        return moved

    def allow(self) -> None:
        (self.project.root / FILE).write_text(ALLOWED)

    @property
    def wishes(self) -> list[Wished]:
        bodies = [entry.body for entry in self.ledger.entries()]
        return [body for body in bodies if isinstance(body, Wished)]

    @property
    def holder(self) -> str | None:
        return self.store.holders(RELEASE).get(MODEL)


@pytest.fixture
def site(tmp_path: Path, empty_mlflow: Path, server: type[Answers]) -> Site:
    return Site(tmp_path, empty_mlflow)


def test_by_default_it_is_put_back_with_the_reason_on_the_page(site: Site) -> None:
    site.set_alias()
    assert site.take() == ()
    assert site.wishes == []
    assert site.put_back() == (f"release of {MODEL}: 1 → none",)
    assert site.holder is None
    (version,) = [site.store.get_version(MODEL, "1")]
    note = site.store.page_tags(version)[RELEASE_NOTE]
    assert note.startswith("The alias `release` was put back: by the ledger none is")
    assert note.endswith(PUT_BACK)
    assert sentences_about(site.project, [MODEL]) == (f"{MODEL}: {PUT_BACK}",)


def test_where_people_yaml_allows_it_it_is_a_wish_of_nobody_known_and_judged(
    site: Site,
) -> None:
    site.allow()
    version = site.store.get_version(MODEL, "1")
    site.store.annotate(version, {RELEASE_REASON: "better on letters"})
    site.set_alias()
    assert site.take() == (f"`release` of {MODEL} 1 was found and is judged.",)
    (wish,) = site.wishes
    assert (wish.by, wish.account) == ("unknown", UNKNOWN_ACCOUNT)
    assert (wish.version, wish.package_sha256) == ("1", package("1"))
    assert site.ledger.recall(wish.reason_sha256) == "better on letters"
    assert sentences_about(site.project, [MODEL]) == (f"{MODEL}: {TAKEN}",)
    # It waits for its answer, and is taken once.
    assert site.put_back() == ()
    assert site.take() == ()
    open_wish = site.ledger.state().model(MODEL).wish
    assert open_wish is not None
    answered = answer_wish(
        site.project, MODEL, open_wish, open_ledger(site.project.home)
    )
    assert answered.sentence.startswith("Refused: the wish of unknown for letters")
    assert "no release manager" not in answered.sentence
    # Refused, it is not judged again in every round.
    assert site.take() == ()
    assert site.put_back() == (f"release of {MODEL}: 1 → none",)
    assert len(site.wishes) == 1
    site.set_alias()
    assert len(site.take()) == 1
    assert len(site.wishes) == 2


def test_an_alias_that_its_owner_took_away_may_be_set_again(site: Site) -> None:
    site.allow()
    site.set_alias()
    assert len(site.take()) == 1
    site.client.delete_registered_model_alias(MODEL, RELEASE)
    open_wish = site.ledger.state().model(MODEL).wish
    assert open_wish is not None
    answer_wish(site.project, MODEL, open_wish, open_ledger(site.project.home))
    assert site.take() == ()
    assert site.put_back() == ()
    site.set_alias()
    assert len(site.take()) == 1


def test_nobody_known_goes_back_to_nothing_and_stops_nothing(
    tmp_path: Path, empty_mlflow: Path, server: type[Answers]
) -> None:
    """A version that served before is judged once more, as one that never did."""
    site = Site(tmp_path, empty_mlflow)
    site.allow()
    site.release("1")
    site.release("2")
    pending = site.begin("3")
    site.set_alias("1")
    assert len(site.take()) == 1
    state = site.ledger.state()
    model = state.model(MODEL)
    assert model.wish is not None
    assert model.pending is not None
    assert not goes_back(state, MODEL)
    assert stops(state, MODEL, model.pending) is None
    answered = answer_wish(
        site.project, MODEL, model.wish, open_ledger(site.project.home)
    )
    assert answered.sentence.startswith("Refused: the wish of unknown for letters")
    after = site.ledger.state().model(MODEL)
    assert after.pending is not None
    assert after.pending.begun == pending
    assert after.answering is not None
    assert after.answering.release.version == "2"


def test_nobody_known_stops_nothing_by_asking_for_what_serves(site: Site) -> None:
    site.allow()
    site.release("1")
    site.begin("2")
    site.set_alias("1")
    assert len(site.take()) == 1
    wish = site.ledger.state().model(MODEL).wish
    assert wish is not None
    answered = answer_wish(site.project, MODEL, wish, open_ledger(site.project.home))
    assert "Version 1 of letters serves already" in answered.sentence
    assert site.ledger.state().model(MODEL).pending is not None


def test_a_user_of_that_name_is_not_nobody(site: Site) -> None:
    """The key of admission signs for people whom MLflow knows."""
    site.allow()
    people = read_people(site.project.root)
    for role in get_args(PersonRole):
        assert not people.has_role("unknown", UNKNOWN_ACCOUNT, role)
    admission = Desk(site.project.home, site.project.root).admission()
    request = ChangeRequest(by="unknown", reason="x", account=UNKNOWN_ACCOUNT)
    wish = Wished(model=MODEL, version="1", **attribute(request, admission))
    admission.append(wish, admission.state())
    state = site.ledger.state()
    open_wish = state.model(MODEL).wish
    assert open_wish is not None
    assert not is_of_nobody_known(open_wish, state)
    answered = answer_wish(
        site.project, MODEL, open_wish, open_ledger(site.project.home)
    )
    assert "unknown is no release manager" in answered.sentence


def test_the_key_is_taken_back_before_the_answer(site: Site) -> None:
    site.allow()
    site.set_alias()
    site.take()
    (site.project.root / FILE).write_text(
        ALLOWED.replace("[release_manager]\n", "[]\n")
    )
    wish = site.ledger.state().model(MODEL).wish
    assert wish is not None
    answered = answer_wish(site.project, MODEL, wish, open_ledger(site.project.home))
    assert "unknown is no release manager" in answered.sentence


def test_versions_that_the_ledger_does_not_hold_are_no_wish(site: Site) -> None:
    site.allow()
    site.client.create_model_version(MODEL, "s3://x/2", tags={PACKAGE: "not a digest"})
    site.set_alias("2")
    assert site.take() == ()
    site.client.set_model_version_tag(MODEL, "1", PACKAGE, package("2"))
    site.set_alias("1")
    assert site.take() == ()
    assert site.wishes == []
    assert site.put_back() == (f"release of {MODEL}: 1 → none",)


def test_where_the_server_has_admission_nothing_is_found(
    site: Site, server: type[Answers]
) -> None:
    server.status = 200
    server.body = b'{"admission": "assay", "governs": true}'
    site.allow()
    site.set_alias()
    assert site.take() == ()
    assert site.there.sentence(MODEL) == ""


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, b'{"admission": "assay", "governs": true}'),
        (401, b""),
        (200, b""),
        (200, b"[]"),
        (200, b"<html>log in</html>"),
        (200, b'{"admission": "assay"}'),
        (200, b'{"admission": "assay", "governs": 1}'),
        (200, b'{"admission": "assay", "governs": false}'),
        (200, b'{"admission": "other", "governs": true}'),
    ],
)
def test_any_other_answer_is_that_of_a_server_without_it(
    server: type[Answers], status: int, body: bytes
) -> None:
    server.status, server.body = status, body
    assert lacks_admission(MODEL) is True


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_proxy_that_answers_for_a_server_that_restarts_says_nothing(
    site: Site, server: type[Answers], status: int
) -> None:
    """Else each restart would have what is admitted there taken as nobody's wish."""
    server.status, server.body = 200, b'{"admission": "assay", "governs": true}'
    site.allow()
    site.set_alias()
    assert site.take() == ()
    server.status = status
    assert lacks_admission(MODEL) is None
    assert AdmissionThere(site.project).is_missing(MODEL) is False
    site.aliases.there = AdmissionThere(site.project)
    assert site.take() == ()
    assert site.wishes == []


def test_a_server_that_is_away_says_nothing_and_a_database_needs_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert lacks_admission(MODEL) is None
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    assert lacks_admission(MODEL) is False
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert lacks_admission(MODEL) is False


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("people: {}\nwithout_admission: [approver]\n", "without_admission"),
        ("people: {}\nwithout_admission: release_manager\n", "without_admission"),
        ("people: {u: {mlflow: [unknown]}}\n", "whoever is not known"),
        ("people: {u: {mlflow: [Unknown]}}\n", "whoever is not known"),
    ],
)
def test_nobody_known_has_no_other_role_and_no_name(
    tmp_path: Path, text: str, words: str
) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(ParameterError, match=words):
        read_people(tmp_path)


def test_a_version_without_a_package_of_assays_is_not_adopted(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As somebody registers one by hand in a team's own MLflow."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", site.store.uri)
    site.client.create_model_version(MODEL, "s3://somewhere/by-hand")
    order = ChangeRequest("omar", "it is ours", "1002 (omar)")
    with pytest.raises(ReleaseError, match="Version 2 of letters holds no package"):
        adopt(site.project, MODEL, "2", order)
    assert site.ledger.state().registration(MODEL, "2") is None
