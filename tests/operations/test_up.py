"""One real `assay up`.

What it prints and records, who may come in, and what becomes of services that are killed.

Its home has a % in its path, and its environment names a proxy that nobody answers: neither keeps
anything from working.
"""

import base64
import json
import os
import signal
import socket
import stat
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from flows.schedule.prefect_login import basic, login, login_file
from flows.schedule.prefect_server import prefect_server
from operations.supervise.processes import find_marked
from operations.system_mark import system_mark
from registry.mlflow.accounts import passwords_file, read_passwords, service_login
from registry.mlflow.recorded import CHAMPION
from registry.mlflow.store import Store
from tests.support.journey import Checkout, make_checkout
from tests.support.processes import words_of
from tests.support.running_system import Up, free_ports, start_up
from tests.support.waiting import SECONDS_AT_MOST

PROXIES = ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY")


@pytest.fixture(scope="module")
def up(
    cloned: Path, empty_mlflow: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Up]:
    """The tests use it one after the other, in any order: each leaves every service well."""
    with system_in(tmp_path_factory.mktemp("system"), cloned, empty_mlflow) as up:
        yield up


@contextmanager
def system_in(root: Path, cloned: Path, empty_mlflow: Path) -> Iterator[Up]:
    checkout = make_checkout(root / "50% assay", cloned, empty_mlflow)
    proxy = dict.fromkeys(PROXIES, "http://127.0.0.1:9")
    environment = {**checkout.environment, **proxy}
    up = start_up(Checkout(checkout.root, environment), root / "up.log")
    try:
        up.wait(lambda: "Ready after" in up.output)
        yield up
    finally:
        up.end()


def ask(
    up: Up, path: str, user: str, password: str, body: object = None, **headers: str
) -> tuple[int, str]:
    """What MLflow answers to that user."""
    login = base64.b64encode(f"{user}:{password}".encode()).decode()
    headers = {
        "Authorization": f"Basic {login}",
        "Content-Type": "application/json",
        **headers,
    }
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{up.ports.mlflow}/{path}", data=data, headers=headers
    )
    try:
        with urllib.request.urlopen(request, timeout=SECONDS_AT_MOST) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.ci
def test_links_are_printed_and_passwords_are_not(up: Up) -> None:
    for port in (up.ports.mlflow, up.ports.prefect, up.ports.endpoint):
        assert f"http://127.0.0.1:{port}" in up.output
    assert str(passwords_file(up.checkout.home)) in up.output
    logs = "".join(
        each.read_text(encoding="utf-8", errors="replace")
        for each in (up.checkout.home / "logs").glob("*")
    )
    command_lines = " ".join(
        word
        for each in find_marked(system_mark(up.checkout.home))
        for word in words_of(each)
    )
    for password in (
        *read_passwords(up.checkout.home).values(),
        login(up.checkout.home),
    ):
        assert password not in up.output + logs + command_lines


@pytest.mark.ci
def test_passwords_and_keys_are_readable_by_their_owner_alone(up: Up) -> None:
    home = up.checkout.home
    for path in (
        passwords_file(home),
        home / "mlflow-auth.db",
        home / "keys/mlflow-sessions",
        home / "keys/mlflow-webhooks",
        login_file(home),
    ):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


@pytest.mark.ci
def test_the_record_says_which_processes_there_are(up: Up) -> None:
    assert up.record.is_running()
    assert {"mlflow", "prefect", "endpoint", "worker", "controller"} <= up.pids().keys()
    for name, pid in up.pids().items():
        assert psutil.Process(pid).environ()["ASSAY_SERVICES"] == str(
            up.checkout.home
        ), name


@pytest.mark.ci
@pytest.mark.parametrize("user", ["admin", "manager", "scientist", "assay"])
def test_every_first_user_comes_in_with_the_right_password_alone(
    up: Up, user: str
) -> None:
    path = "api/2.0/mlflow/experiments/get-by-name?experiment_name=assay"
    status, output = ask(up, path, user, read_passwords(up.checkout.home)[user])
    assert (status, json.loads(output)["experiment"]["artifact_location"]) == (
        200,
        (up.checkout.home / "mlflow-artifacts").as_uri(),
    )
    assert ask(up, path, user, "wrong password")[0] == 401


@pytest.mark.ci
def test_prefect_starts_nothing_for_somebody_without_the_login(up: Up) -> None:
    url = f"http://127.0.0.1:{up.ports.prefect}/api/deployments/filter"
    assert httpx.post(url, timeout=SECONDS_AT_MOST, json={}).status_code == 401
    assert (
        httpx.post(
            url,
            timeout=SECONDS_AT_MOST,
            json={},
            headers={"Authorization": basic("assay:wrong")},
        ).status_code
        == 401
    )
    right = httpx.post(
        url,
        timeout=SECONDS_AT_MOST,
        json={},
        headers={
            "Authorization": basic(login(up.checkout.home)),
            "Origin": "http://evil.example",
        },
    )
    assert len(right.json()) == 5
    assert "access-control-allow-origin" not in right.headers


@pytest.mark.ci
def test_a_name_that_is_not_this_machine_is_refused(up: Up) -> None:
    path = "api/2.0/mlflow/experiments/get-by-name?experiment_name=assay"
    assert (
        ask(
            up,
            path,
            "admin",
            read_passwords(up.checkout.home)["admin"],
            Host="evil.example",
        )[0]
        == 403
    )


@pytest.mark.ci
def test_the_scientist_reads_models_that_the_manager_may_edit_and_neither_makes_users(
    up: Up,
) -> None:
    known = read_passwords(up.checkout.home)
    base = "api/2.0/mlflow/registered-models"
    assert (
        ask(up, f"{base}/create", "assay", known["assay"], {"name": "theirs"})[0] == 200
    )
    assert ask(up, f"{base}/get?name=theirs", "scientist", known["scientist"])[0] == 200
    for user, expected in (("scientist", 403), ("manager", 200)):
        body = {"name": "theirs", "key": "by", "value": user}
        assert ask(up, f"{base}/set-tag", user, known[user], body)[0] == expected
        new = {"username": "guest", "password": "long-enough-0"}
        assert ask(up, "api/2.0/mlflow/users/create", user, known[user], new)[0] == 403


@pytest.mark.ci
def test_the_command_line_without_a_server_sees_what_the_server_has(up: Up) -> None:
    body = {"experiment_id": "1", "run_name": "seen from both sides"}
    known = read_passwords(up.checkout.home)
    assert (
        ask(up, "api/2.0/mlflow/runs/create", "scientist", known["scientist"], body)[0]
        == 403
    )
    assert (
        ask(up, "api/2.0/mlflow/runs/create", "assay", known["assay"], body)[0] == 200
    )
    assert "seen from both sides" in [run.info.run_name for run in up.checkout.runs()]


@pytest.mark.ci
def test_the_service_account_finds_no_champion_of_a_model_that_is_not_there_yet(
    up: Up, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in service_login(up.checkout.home).items():
        monkeypatch.setenv(name, text)
    store = Store(f"http://127.0.0.1:{up.ports.mlflow}", up.checkout.home / "leases")
    assert store.holder("not-trained-yet", CHAMPION) is None


@pytest.mark.ci
def test_a_run_by_hand_uses_the_prefect_server_that_is_there(
    up: Up, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    with prefect_server(up.checkout.home):
        assert (
            os.environ["PREFECT_API_URL"] == f"http://127.0.0.1:{up.ports.prefect}/api"
        )
    assert "PREFECT_API_URL" not in os.environ


@pytest.mark.ci
def test_status_says_that_every_service_is_well(up: Up) -> None:
    def all_are_well() -> bool:
        output = up.checkout.assay("status", "--json").last
        is_followed = (
            output["ledger"] == output["followed"] and output["out_of_reach"] == []
        )
        return is_followed and all(each["is_healthy"] for each in output["services"])

    up.wait(all_are_well)
    services = {
        each["name"]: each
        for each in up.checkout.assay("status", "--json").last["services"]
    }
    assert services["mlflow"]["port"] == up.ports.mlflow


@pytest.mark.ci
def test_the_doctor_knows_the_ports_and_finds_the_clocks_agreed(up: Up) -> None:
    wanted = {
        f"ports: {up.ports.mlflow} is ours",
        "clock: agrees with mlflow",
        "servers: worker answers",
        "clock: not behind the ledger",
    }

    def all_is_found() -> bool:
        checks = up.checkout.assay("doctor", "--json").last
        return wanted <= {
            f"{each['name']}: {each['text']}" for each in checks if each["is_ok"]
        }

    up.wait(all_is_found)


@pytest.mark.ci
def test_a_second_one_on_the_same_home_is_refused_in_one_line(up: Up) -> None:
    done = up.checkout.assay("up", "--no-open")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(
        f"assay: assay up is running already for {up.checkout.home} (process {up.process.pid})."
    )
    assert done.err.count("\n") == 1


@pytest.mark.ci
def test_killed_services_are_started_again(up: Up) -> None:
    known = read_passwords(up.checkout.home)
    body = {"name": "kept"}
    path = "api/2.0/mlflow/registered-models"
    assert ask(up, f"{path}/create", "assay", known["assay"], body)[0] == 200
    before, restarts = up.pids(), restarts_of(up)
    for pid in before.values():
        os.kill(pid, signal.SIGKILL)
    up.wait(
        lambda: all(
            each.state in ("ready", "done") and each.pid not in before.values()
            for each in up.record.services
        )
    )
    assert {name: restarts[name] + 1 for name in before} == {
        name: count for name, count in restarts_of(up).items() if name in before
    }
    up.wait(lambda: all(each.answers() for each in up.record.services))
    scientist = known["scientist"]
    assert ask(up, f"{path}/get?name=kept", "scientist", scientist)[0] == 200


def restarts_of(up: Up) -> dict[str, int]:
    return {each.name: each.restarts for each in up.record.services}


@pytest.mark.ci
def test_a_service_that_cannot_be_started_for_want_of_its_password_does_not_take_the_others_down(
    up: Up,
) -> None:
    before, secrets = up.pids(), passwords_file(up.checkout.home)
    away = secrets.rename(secrets.with_suffix(".away"))
    os.kill(before["controller"], signal.SIGKILL)
    up.wait(
        lambda: (
            "it could not be started: There is no" in up.service("controller").detail
        )
    )
    away.rename(secrets)
    up.wait(lambda: up.service("controller").state == "ready")
    up.wait(lambda: up.service("controller").answers())
    assert up.pids()["endpoint"] == before["endpoint"]


@pytest.mark.ci
def test_ctrl_c_ends_everything(
    cloned: Path, empty_mlflow: Path, tmp_path: Path
) -> None:
    with system_in(tmp_path, cloned, empty_mlflow) as up:
        up.process.send_signal(signal.SIGINT)
        assert up.process.wait(timeout=SECONDS_AT_MOST) == 0, up.output
        assert list(find_marked(system_mark(up.checkout.home))) == []
        assert not (up.checkout.home / "services.json").exists()
        assert up.checkout.assay("down").out == "Nothing is running.\n"


def test_a_port_that_is_taken_is_named_before_anything_starts(
    cloned: Path, tmp_path: Path
) -> None:
    checkout = Checkout(cloned, {"ASSAY_HOME": str(tmp_path / "home")})
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = checkout.assay(
            "up", "--no-open", "--prefect-port", str(port), *_others()
        )
    assert (done.code, done.out) == (1, "")
    assert (
        done.err
        == f"assay: Port {port} on 127.0.0.1 is taken. Stop what listens there, or give "
        "another with --prefect-port.\n"
    )
    assert not (tmp_path / "home/logs").exists()


def test_one_port_for_two_servers_is_refused(cloned: Path, tmp_path: Path) -> None:
    checkout = Checkout(cloned, {"ASSAY_HOME": str(tmp_path / "home")})
    mlflow, endpoint = free_ports(2)
    done = checkout.assay(
        "up",
        "--no-open",
        "--mlflow-port",
        str(mlflow),
        "--prefect-port",
        str(mlflow),
        "--endpoint-port",
        str(endpoint),
    )
    assert (done.code, done.err) == (
        1,
        f"assay: --mlflow-port and --prefect-port are both {mlflow}. Give each its own.\n",
    )


@pytest.mark.parametrize("name", ["services.json", "passwords.json"])
def test_a_file_that_is_no_json_is_no_crash(
    cloned: Path, tmp_path: Path, name: str
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / name).write_text("{", encoding="utf-8")
    checkout = Checkout(cloned, {"ASSAY_HOME": str(home)})
    assert checkout.assay("status").code == 0
    assert "Traceback" not in checkout.assay("doctor").err
    assert checkout.assay("down").out == "Nothing is running.\n"


def _others() -> list[str]:
    mlflow, endpoint = free_ports(2)
    return ["--mlflow-port", str(mlflow), "--endpoint-port", str(endpoint)]
