"""A team's own MLflow with two workers and the plug-in, over HTTP.

A release manager is refused with the reason, other people's models are as in a plain MLflow, and
about a hundred attacks on a governed model change nothing. torch, DVC and Prefect cannot be
imported in the server. MLflow's own permissions refuse nothing there: everybody may manage all.
"""

import hashlib
import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from registry.ledger.entries import WishClosed, Wished
from registry.ledger.ledger import open_ledger
from registry.mlflow.connection import EXPERIMENT
from registry.mlflow.inbox import ANSWER
from registry.mlflow.recorded import PACKAGE, RELEASE, RELEASE_REASON
from tests.support.ledgers import MODEL, package, registered, write
from tests.support.team_mlflow import TeamMlflow, team_mlflow
from tests.support.waiting import SECONDS_AT_MOST

pytestmark = pytest.mark.ci
FOREIGN = b"weights that nobody trained"
OURS = {"key": PACKAGE, "value": "1" * 64}
Attacks = Iterator[tuple[str, httpx.Response]]


@dataclass(frozen=True)
class Site:
    """The server, in which Assay recorded version 1 of the governed model."""

    server: TeamMlflow
    run: str
    logged: str
    experiment: str
    own: str
    own_run: str

    def post(self, user: str, path: str, **body: Any) -> httpx.Response:
        return self.server.post(user, path, **body)

    def made(self, path: str, **body: Any) -> Any:
        """What eve made, as the server describes it."""
        answer = self.post("eve", path, **body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def logged_model(self, experiment: str, **more: Any) -> str:
        made = self.made("logged-models", experiment_id=experiment, name="m", **more)
        return str(made["model"]["info"]["model_id"])

    def files_of(self, experiment: str, logged: str) -> Path:
        return self.server.artifacts / experiment / "models" / logged / "artifacts"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("team")
    ledger = open_ledger(folder / "home")
    write(ledger, registered())
    with team_mlflow(folder) as server:
        yield _recorded(server)


def _recorded(server: TeamMlflow) -> Site:
    """As worker and controller do it: MLflow's client as the service account."""
    from mlflow import MlflowClient

    with pytest.MonkeyPatch.context() as patched:
        for name, text in server.environment().items():
            patched.setenv(name, text)
        client = MlflowClient(server.url, server.url)
        experiment = client.create_experiment(EXPERIMENT)
        run = client.create_run(experiment, tags={"assay.by": "kim"}).info.run_id
        client.log_text(run, '{"verdict": "passed"}', "verdict.json")
        logged = client.create_logged_model(experiment, name="m", source_run_id=run)
        files = server.folder / "adapter"
        files.mkdir()
        (files / "adapter.safetensors").write_bytes(b"trained")
        client.log_model_artifacts(logged.model_id, str(files))
        client.finalize_logged_model(logged.model_id, "READY")
        client.create_registered_model(MODEL)
        client.create_model_version(
            MODEL,
            f"models:/{logged.model_id}",
            run,
            tags={PACKAGE: package("1")},
            model_id=logged.model_id,
        )
        client.set_registered_model_alias(MODEL, "champion", "1")
    own = server.post("eve", "experiments/create", name="mine").json()["experiment_id"]
    made = server.post("eve", "runs/create", experiment_id=own).json()
    own_run = made["run"]["info"]["run_id"]
    return Site(server, run, logged.model_id, experiment, own, own_run)


def state_of(site: Site) -> dict[str, Any]:
    """Everything about the governed model, what it came from, and its files."""
    queries = {
        "versions": ("SELECT * FROM model_versions WHERE name = ?", MODEL),
        "tags": ("SELECT * FROM model_version_tags WHERE name = ? ORDER BY key", MODEL),
        "aliases": ("SELECT * FROM registered_model_aliases WHERE name = ?", MODEL),
        "run": ("SELECT * FROM runs WHERE run_uuid = ?", site.run),
        "run tags": ("SELECT * FROM tags WHERE run_uuid = ? ORDER BY key", site.run),
        "metrics": ("SELECT * FROM metrics WHERE run_uuid = ?", site.run),
        "logged": ("SELECT * FROM logged_models WHERE model_id = ?", site.logged),
    }
    file = site.server.folder / "mlflow.db"
    with closing(sqlite3.connect(file, timeout=SECONDS_AT_MOST)) as database:
        rows = {
            name: database.execute(query, (key,)).fetchall()
            for name, (query, key) in queries.items()
        }
    assert all(rows[name] for name in ("versions", "aliases", "run", "logged"))
    folder = site.server.artifacts / site.experiment
    files = [each for each in sorted(folder.rglob("*")) if each.is_file()]
    digests = {
        str(each): hashlib.sha256(each.read_bytes()).hexdigest() for each in files
    }
    assert len(digests) >= 2
    return {**rows, "files": digests}


@contextmanager
def controller(site: Site, reason: str) -> Iterator[None]:
    """Answers each wish with that reason until the context ends."""
    over = threading.Event()

    def answer() -> None:
        ledger = open_ledger(site.server.home)
        while not over.wait(0.05):
            wish = ledger.state().model(MODEL).wish
            if wish is not None:
                text = ledger.remember(reason)
                write(ledger, WishClosed(wished=wish.generation, reason_sha256=text))

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def alias(site: Site, user: str, name: str, model: str = MODEL) -> httpx.Response:
    body = {"name": model, "alias": name, "version": "1"}
    return site.post(user, "registered-models/alias", **body)


def sentence(answer: httpx.Response) -> str:
    assert answer.status_code == 403, answer.text
    return str(answer.json()["message"])


def test_a_release_manager_is_refused_with_the_reason_and_what_serves_stays(
    site: Site,
) -> None:
    before = state_of(site)
    assert "set the tag `release_reason`" in sentence(alias(site, "ann", RELEASE))
    assert "eve is no release manager" in sentence(alias(site, "eve", RELEASE))
    tag = {"name": MODEL, "version": "1", "key": RELEASE_REASON, "value": "better"}
    # It would go on record as ann's.
    words = sentence(site.post("eve", "model-versions/set-tag", **tag))
    assert "eve is no release manager" in words
    assert site.post("ann", "model-versions/set-tag", **tag).status_code == 200
    with controller(site, "Nobody rated it, and the policy asks for 3."):
        said = sentence(alias(site, "ann", RELEASE))
    assert "Nobody rated it, and the policy asks for 3" in said
    assert "moved by the account 'assay'" in sentence(alias(site, "ann", "champion"))
    gone = {"name": MODEL, "version": "1", "key": RELEASE_REASON}
    path = "api/2.0/mlflow/model-versions/delete-tag"
    assert site.server.ask("ann", "DELETE", path, json=gone).status_code == 200
    assert state_of(site) == before
    entries = open_ledger(site.server.home).entries()
    (wish,) = [each.body for each in entries if isinstance(each.body, Wished)]
    assert (wish.by, wish.account) == ("ann", "mlflow:ann")


def test_an_approvers_tag_is_an_approval_and_elsewhere_a_tag(site: Site) -> None:
    tag = {"name": MODEL, "version": "1", "key": "approve", "value": "good"}
    assert "eve" in sentence(site.post("eve", "model-versions/set-tag", **tag))
    assert site.post("ann", "model-versions/set-tag", **tag).status_code == 200
    (approval,) = open_ledger(site.server.home).state().approvals
    assert (approval.by, approval.account) == ("ann", "mlflow:ann")
    _own_model(site, "tagged")
    plain = {**tag, "name": "tagged"}
    assert site.post("eve", "model-versions/set-tag", **plain).status_code == 200
    query = "model-versions/get?name=tagged&version=1"
    page = site.server.ask("eve", "GET", f"api/2.0/mlflow/{query}").json()
    tags = page["model_version"]["tags"]
    assert {"key": "approve", "value": "good"} in tags


def _own_model(site: Site, name: str) -> str:
    """A model of eve's with one version; gives its logged model."""
    logged = site.logged_model(site.own, source_run_id=site.own_run)
    site.made("registered-models/create", name=name)
    source = f"models:/{logged}"
    site.made("model-versions/create", name=name, source=source, model_id=logged)
    return logged


def test_whatever_is_not_governed_works_as_in_a_plain_mlflow(site: Site) -> None:
    logged = _own_model(site, "theirs")
    for name in (RELEASE, "champion", "challenger", "anything", "пример"[:1] + "x"):
        assert alias(site, "eve", name, "theirs").status_code in {200, 400}
    assert alias(site, "eve", RELEASE, "theirs").status_code == 200
    version = {"name": "theirs", "version": "1"}
    for path, body in (
        ("model-versions/set-tag", {**version, **OURS}),
        ("model-versions/set-tag", {**version, "key": "approve", "value": "x"}),
        ("model-versions/transition-stage", {**version, "stage": "Production"}),
        ("runs/set-tag", {"run_id": site.own_run, **OURS}),
        ("runs/log-metric", {"run_id": site.own_run, **_metric("loss", 0.5)}),
        ("runs/log-inputs", {"run_id": site.own_run, "models": _models(site.logged)}),
        ("runs/create", {"experiment_id": site.experiment}),
        ("experiments/create", {"name": "Assay"}),
        ("registered-models/rename", {"name": "theirs", "new_name": "ours"}),
    ):
        answer = site.post("eve", path, **body)
        assert answer.status_code == 200, (path, answer.text)
    put = f"api/2.0/mlflow-artifacts/artifacts/{site.own}/models/{logged}/artifacts/x"
    assert site.server.ask("eve", "PUT", put, content=b"mine").status_code == 200
    assert (site.files_of(site.own, logged) / "x").read_bytes() == b"mine"
    # Copies out of a governed model are nobody's business: Assay serves none of them.
    copied = {"name": "ours", "source": f"models:/{MODEL}/1"}
    assert site.post("eve", "model-versions/create", **copied).status_code == 200
    for path in (f"logged-models/{logged}", "registered-models/delete"):
        body = {"name": "ours"} if "registered" in path else {}
        url = f"api/2.0/mlflow/{path}"
        assert site.server.ask("eve", "DELETE", url, json=body).status_code == 200
    assert site.post("eve", "runs/delete", run_id=site.own_run).status_code == 200
    assert site.post("eve", "runs/restore", run_id=site.own_run).status_code == 200


def test_a_version_that_a_person_registered_is_unknown_to_the_ledger_and_frozen(
    site: Site,
) -> None:
    # A run of its own: it belongs to a governed model from then on.
    created = site.made("runs/create", experiment_id=site.own)
    run = created["run"]["info"]["run_id"]
    logged = site.logged_model(site.own, source_run_id=run)
    put = f"api/2.0/mlflow-artifacts/artifacts/{site.own}/models/{logged}/artifacts/w"
    assert site.server.ask("eve", "PUT", put, content=b"mine").status_code == 200
    source = {"source": f"models:/{logged}", "model_id": logged}
    made = site.made("model-versions/create", name=MODEL, **source)
    number = made["model_version"]["version"]
    sentence(site.server.ask("eve", "PUT", put, content=FOREIGN))
    assert (site.files_of(site.own, logged) / "w").read_bytes() == b"mine"
    tag = {"name": MODEL, "version": number, "key": RELEASE_REASON, "value": "x"}
    assert site.post("ann", "model-versions/set-tag", **tag).status_code == 200
    body = {"name": MODEL, "alias": RELEASE, "version": number}
    said = sentence(site.post("ann", "registered-models/alias", **body))
    assert f"The ledger does not hold version {number} of letters" in said
    assert "assay adopt" in said
    # One's own run goes on, and cannot be deleted.
    metric = site.post("eve", "runs/log-metric", run_id=run, **_metric("l", 1))
    assert metric.status_code == 200
    sentence(site.post("eve", "runs/delete", run_id=run))
    sentence(site.post("eve", "experiments/delete", experiment_id=site.own))


def test_an_upload_that_began_before_the_registration_does_not_end_after_it(
    site: Site,
) -> None:
    logged = site.logged_model(site.experiment)
    folder = f"{site.experiment}/models/{logged}/artifacts"
    put = f"api/2.0/mlflow-artifacts/artifacts/{folder}/late"

    def slowly() -> Iterator[bytes]:
        yield FOREIGN
        source = {"source": f"models:/{logged}", "model_id": logged}
        site.made("model-versions/create", name=MODEL, **source)
        yield FOREIGN

    sentence(site.server.ask("eve", "PUT", put, content=slowly()))
    assert list(site.files_of(site.experiment, logged).iterdir()) == []


@pytest.mark.parametrize("user", ["eve", "admin"])
def test_no_attack_on_a_governed_model_changes_anything(site: Site, user: str) -> None:
    _own_model(site, f"own-{user}")
    before = state_of(site)
    answers = {name: answer.status_code for name, answer in attacks(site, user)}
    # MLflow answers 500 to some of them, and does nothing: the state says so.
    passed = {name: status for name, status in answers.items() if status < 400}
    assert len(answers) > 90
    assert passed == {}
    assert state_of(site) == before


def attacks(site: Site, user: str) -> Attacks:
    """Each by its name, and what the server answered."""
    of_records = (on_records, on_answers, on_files)
    for family in (on_aliases, on_models, on_registration, *of_records):
        yield from family(site, user)


def on_aliases(site: Site, user: str) -> Attacks:
    """Nobody gave a reason, so that no wish is taken either."""
    looks_alike = ("Release", "ｒelease", "rel\u200bease", " release ", "r\u0435lease")
    for name in (RELEASE, *looks_alike, "champion", "CHAMPION", "challenger\u00ad"):
        for number in ("1", "01", "１"):
            body = {"name": MODEL, "alias": name, "version": number}
            answer = site.post(user, "registered-models/alias", **body)
            yield f"alias {name!r} {number}", answer
        path = f"api/2.0/mlflow/registered-models/alias?name={MODEL}&alias={name}"
        yield f"alias {name!r} gone", site.server.ask(user, "DELETE", path)
    body = {"name": MODEL, "alias": "champion", "version": "1"}
    text = json.dumps(body)
    for root in ("api/1.0", "ajax-api/1.0", "api/2.0", "ajax-api/2.0", "api/3.0"):
        path = f"{root}/mlflow/registered-models/alias"
        yield f"alias {root}", site.server.ask(user, "POST", path, json=body)
        yield f"text {root}", site.server.ask(user, "POST", path, json=text)
        twice = json.dumps(text)
        yield f"two texts {root}", site.server.ask(user, "POST", path, json=twice)
        headers = {"X-MLFLOW-WORKSPACE": "other"}
        answer = site.server.ask(user, "POST", path, json=body, headers=headers)
        yield f"workspace {root}", answer
    path = "api/2.0/mlflow/registered-models/alias"
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        headers = {"content-type": kind}
        answer = site.server.ask(user, "POST", path, content=text, headers=headers)
        yield f"as {kind}", answer
    for name in ("LETTERS", "ｌetters", "letters\u200b"):
        yield f"model {name!r}", alias(site, user, RELEASE, name)


def on_models(site: Site, user: str) -> Attacks:
    model, version = {"name": MODEL}, {"name": MODEL, "version": "1"}
    for stage in ("Production", "production", "Staging", "Archived"):
        body = {**version, "stage": stage}
        yield (
            f"stage {stage}",
            site.post(user, "model-versions/transition-stage", **body),
        )
    hidden = ("mlflow.prompt.is_prompt", "ＭLflow.prompt.is_prompt")
    for key in (
        *(PACKAGE, PACKAGE.upper(), "ａssay.x", "assay\u200b.x", " assay.x"),
        *hidden,
    ):
        tag = {"key": key, "value": "1"}
        yield (
            f"tag {key!r}",
            site.post(user, "model-versions/set-tag", **version, **tag),
        )
        answer = site.post(user, "registered-models/set-tag", **model, **tag)
        yield f"model's tag {key!r}", answer
    for name, path, body in (
        ("tag gone", "model-versions/delete-tag", {**version, "key": PACKAGE}),
        (
            "MLflow's tag gone",
            "model-versions/delete-tag",
            {**version, "key": hidden[0]},
        ),
        ("version gone", "model-versions/delete", version),
        ("model gone", "registered-models/delete", model),
    ):
        for root in ("api/2.0", "ajax-api/2.0", "api/3.0"):
            url = f"{root}/mlflow/{path}"
            yield f"{name} {root}", site.server.ask(user, "DELETE", url, json=body)
    for path, body in (
        ("model-versions/update", {**version, "description": "fit"}),
        ("registered-models/update", {**model, "description": "fit"}),
    ):
        url = f"api/2.0/mlflow/{path}"
        yield path, site.server.ask(user, "PATCH", url, json=body)
    renamed = {"name": MODEL, "new_name": "elsewhere"}
    yield "renamed", site.post(user, "registered-models/rename", **renamed)
    for name in (MODEL, "Letters"):
        taken = {"name": f"own-{user}", "new_name": name}
        yield f"renamed to {name}", site.post(user, "registered-models/rename", **taken)


def on_registration(site: Site, user: str) -> Attacks:
    logged = site.logged_model(site.own)
    source = f"models:/{logged}"
    for tags in (
        [OURS],
        [{"key": "approve", "value": "x"}],
        [{"key": "Assay.x", "value": "1"}],
        [{"key": "mlflow.prompt.is_prompt", "value": "true"}],
    ):
        body = {"source": source, "model_id": logged, "tags": tags}
        answer = site.post(user, "model-versions/create", name=MODEL, **body)
        yield f"version with {tags}", answer
    run = f"runs:/{site.own_run}"
    artifacts = f"{site.server.artifacts}/{site.own}/{site.own_run}/artifacts"
    for place in (
        *(f"models:/own-{user}/1", f"models:/{MODEL}/1", f"models:/{MODEL}@champion"),
        *(run, f"{run}/model", artifacts, f"file://{artifacts}", "s3://bucket/x"),
        *(
            f"{source}/../x",
            f"{source}?x",
            f" {source}",
            source.upper(),
            "dummy-source",
        ),
        *("prompt-template", f"mlflow-artifacts:/{site.own}/{site.own_run}/artifacts"),
    ):
        body = {"source": place, "run_id": site.own_run}
        answer = site.post(user, "model-versions/create", name=MODEL, **body)
        yield f"source {place}", answer
    other = {"source": source, "model_id": site.logged}
    yield "two models", site.post(user, "model-versions/create", name=MODEL, **other)


def on_records(site: Site, user: str) -> Attacks:
    run, logged = {"run_id": site.run}, site.logged
    for path, body in (
        ("runs/delete", run),
        ("runs/log-metric", {**run, **_metric("chrf", 99.0)}),
        ("runs/log-parameter", {**run, "key": "lora.r", "value": "1"}),
        ("runs/log-batch", {**run, "metrics": [_metric("chrf", 99.0)]}),
        ("runs/log-batch", {**run, "tags": [OURS]}),
        ("runs/log-inputs", {**run, "models": _models(logged)}),
        ("runs/set-tag", {**run, **OURS}),
        ("runs/set-tag", {**run, "key": "mlflow.user", "value": "mallory"}),
        ("runs/delete-tag", {**run, "key": "assay.by"}),
        ("runs/update", {**run, "status": "FAILED"}),
        ("experiments/delete", {"experiment_id": site.experiment}),
        ("runs/log-metric", _on_logged_model(site)),
    ):
        for root in ("api/2.0", "ajax-api/2.0"):
            url = f"{root}/mlflow/{path}"
            yield f"{root} {path} {body}", site.server.ask(user, "POST", url, json=body)
    renamed = {"experiment_id": site.experiment, "new_name": "other"}
    yield "experiment renamed", site.post(user, "experiments/update", **renamed)
    place = f"mlflow/logged-models/{logged}"
    for root in ("api/2.0", "ajax-api/2.0"):
        yield f"{root} gone", site.server.ask(user, "DELETE", f"{root}/{place}")
        failed = {"model_id": logged, "status": "LOGGED_MODEL_UPLOAD_FAILED"}
        answer = site.server.ask(user, "PATCH", f"{root}/{place}", json=failed)
        yield f"{root} failed", answer
        tags = {"tags": [OURS]}
        answer = site.server.ask(user, "PATCH", f"{root}/{place}/tags", json=tags)
        yield f"{root} tagged", answer


def on_answers(site: Site, user: str) -> Attacks:
    """What became of a transfer is believed by its sender, in any experiment."""
    run = {"run_id": site.own_run}
    answers = [
        {"key": key, "value": '{"version": "7", "text": "received"}'}
        for key in (ANSWER, ANSWER.upper(), f" {ANSWER}\u200b")
    ]
    for answer in answers:
        yield f"set {answer}", site.post(user, "runs/set-tag", **run, **answer)
        batch = {**run, "tags": [answer]}
        yield f"batch {answer}", site.post(user, "runs/log-batch", **batch)
        made = {"experiment_id": site.own, "tags": [answer]}
        yield f"made {answer}", site.post(user, "runs/create", **made)
    yield "deleted", site.post(user, "runs/delete-tag", **run, key=ANSWER)


def on_files(site: Site, user: str) -> Attacks:
    package_ = f"{site.experiment}/models/{site.logged}/artifacts"
    evidence = f"{site.experiment}/{site.run}/artifacts"
    link = site.server.artifacts / site.own / f"link-{user}"
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(site.server.artifacts / package_)
    for root in ("api/2.0", "ajax-api/2.0"):
        base = f"{root}/mlflow-artifacts/artifacts"
        for folder in (package_, evidence, f"{site.own}/link-{user}"):
            for path in ("adapter.safetensors", "more/x", "verdict.json"):
                url = f"{base}/{folder}/{path}"
                answer = site.server.ask(user, "PUT", url, content=FOREIGN)
                yield f"PUT {root} {folder} {path}", answer
        for path in (package_, evidence, f"{site.experiment}/models", site.experiment):
            yield (
                f"DELETE {root} {path}",
                site.server.ask(user, "DELETE", f"{base}/{path}"),
            )
        for path in (f"{site.own}/../{package_}/x", f"{site.own}/%2e%2e/{package_}/x"):
            url = f"{base}/{path}"
            yield f"PUT {path}", site.server.ask(user, "PUT", url, content=FOREIGN)
        part = f"{root}/mlflow-artifacts/mpu/create/{package_}"
        body = {"path": "x", "num_parts": 1}
        yield f"multipart {root}", site.server.ask(user, "POST", part, json=body)
    # A run whose own place is that of the version's files.
    place = f"{site.server.artifacts}/{package_}"
    inside = {"name": f"in {user}", "artifact_location": place}
    made = site.made("experiments/create", **inside)
    run = site.made("runs/create", experiment_id=made["experiment_id"])
    parameters = {"run_uuid": run["run"]["info"]["run_id"], "path": "x"}
    url = "ajax-api/2.0/mlflow/upload-artifact"
    answer = site.server.ask(user, "POST", url, params=parameters, content=FOREIGN)
    yield "a run within the files", answer
    parameters = {"run_uuid": site.run, "path": "verdict.json"}
    url = "ajax-api/2.0/mlflow/upload-artifact"
    yield (
        "upload-artifact",
        site.server.ask(user, "POST", url, params=parameters, content=FOREIGN),
    )


def _models(logged: str) -> list[dict[str, str]]:
    return [{"model_id": logged}]


def _on_logged_model(site: Site) -> dict[str, Any]:
    metric = _metric("chrf", 99.0)
    return {"run_id": site.own_run, "model_id": site.logged, **metric}


def _metric(key: str, number: float) -> dict[str, Any]:
    return {"key": key, "value": number, "timestamp": 1, "step": 0}
