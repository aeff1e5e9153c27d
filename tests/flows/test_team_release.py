"""`assay up --team-mlflow` beside a team's own MLflow with the plug-in: a whole release there.

The alias is refused with the judge's reasons, then the version is released by it, `champion` moves
by itself, and the endpoint answers.
"""

import dataclasses
from pathlib import Path

import httpx
import pytest

from registry.ledger.ledger import open_ledger
from registry.mlflow.recorded import CHAMPION, RELEASE, RELEASE_REASON
from registry.release.people import FILE
from registry.release.release import is_at_rest
from tests.support.journey import Checkout, copy_checkout
from tests.support.promoted import MODEL, WAIVED, waive
from tests.support.running_system import Up, start_up
from tests.support.team_mlflow import PEOPLE, TeamMlflow, team_mlflow
from tests.support.waiting import SECONDS_AT_MOST, wait_until

pytestmark = pytest.mark.ci
COMMANDS = "command_line: [author, release_manager]\n"


def test_a_release_by_the_alias_in_a_teams_own_mlflow(
    recorded: Checkout, tmp_path: Path
) -> None:
    site = copy_checkout(recorded, tmp_path / "assay")
    (site.root / FILE).write_text(PEOPLE + COMMANDS)
    team = tmp_path / "team"
    team.mkdir()
    # One machine: the server has the home of the controller, and the records that were made there.
    (team / "home").symlink_to(site.home)
    (team / "mlflow.db").symlink_to(site.home / "mlflow.db")
    with team_mlflow(team, "sqlite") as server:
        environment = {**site.environment, **server.environment()}
        checkout = dataclasses.replace(site, environment=environment)
        up = start_up(checkout, tmp_path / "up.log", "--team-mlflow")
        try:
            up.wait(lambda: "Ready after" in up.output)
            released(server, up)
        finally:
            up.end()


def released(server: TeamMlflow, up: Up) -> None:
    version = {"name": MODEL, "version": "1"}
    tag = {**version, "key": RELEASE_REASON, "value": "it answers letters better"}
    assert server.post("ann", "model-versions/set-tag", **tag).status_code == 200
    alias = {**version, "alias": RELEASE}
    refused = server.post("ann", "registered-models/alias", **alias)
    assert refused.status_code == 403, refused.text
    said = refused.json()["message"]
    assert "0 people rated the answers, the policy asks for 3" in said
    assert aliases(server) == {}
    for rule in WAIVED:
        waive(up.checkout, rule)
    granted = server.post("ann", "registered-models/alias", **alias)
    assert granted.status_code == 200, granted.text
    wait_until(lambda: is_settled(server, up), SECONDS_AT_MOST, lambda: up.output)
    model = open_ledger(up.checkout.home).state().model(MODEL)
    assert model.current is not None
    assert model.current.by == "ann"
    answer = httpx.post(
        f"http://127.0.0.1:{up.ports.endpoint}/v1/chat/completions",
        json={"model": MODEL, "messages": [{"role": "user", "content": "a"}]},
        timeout=SECONDS_AT_MOST,
        trust_env=False,
    )
    assert answer.json()["system_fingerprint"] == model.current.release.fingerprint
    # Whoever may do all in MLflow changes nothing of it.
    moved = {**version, "alias": CHAMPION}
    assert server.post("admin", "registered-models/alias", **moved).status_code == 403
    shown = up.checkout.assay("status")
    assert "has no admission" not in shown.out + shown.err


def aliases(server: TeamMlflow) -> dict[str, str]:
    path = f"api/2.0/mlflow/registered-models/get?name={MODEL}"
    model = server.ask("ann", "GET", path).json()["registered_model"]
    found = {each["alias"]: each["version"] for each in model.get("aliases", [])}
    return {name: found[name] for name in (RELEASE, CHAMPION) if name in found}


def is_settled(server: TeamMlflow, up: Up) -> bool:
    model = open_ledger(up.checkout.home).state().model(MODEL)
    is_done = is_at_rest(model) and model.current is not None
    return is_done and aliases(server) == {RELEASE: "1", CHAMPION: "1"}
