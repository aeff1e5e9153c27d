"""What is said of an MLflow that cannot be used, by servers that answer as one would."""

from collections.abc import Callable
from pathlib import Path

import pytest

from core.errors import AssayError
from registry.mlflow.examine import examine_mlflow
from tests.support.impostors import Reply, Request, answering, reply

_INCOMPLETE = reply(400, {"error_code": "INVALID_PARAMETER_VALUE", "message": "no"})
_ABSENT = reply(404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "none"})
_DENIED = Reply(403, b"Permission denied", "text/html")
_PAGE = Reply(200, b"<!doctype html><title>Log in</title>", "text/html")
_NOT_SERVED = Reply(503, b"disabled: `--no-serve-artifacts`, see `--serve-artifacts`")


def experiment(location: str, stage: str = "active") -> Reply:
    """The experiment that holds every run."""
    fields = {"experiment_id": "7", "artifact_location": location}
    return reply(200, {"experiment": {**fields, "lifecycle_stage": stage}})


class Mlflow:
    """As much of MLflow as is asked; one thing of it may be otherwise."""

    def __init__(self, **otherwise: Reply) -> None:
        self._otherwise = otherwise

    def __call__(self, request: Request) -> Reply:
        for name, path, usual in (
            ("version", "/version", Reply(200, b"3.17.2", "text/html")),
            ("health", "/health", Reply(200, b"OK", "text/html")),
            (
                "experiment",
                "/experiments/get-by-name",
                experiment("mlflow-artifacts:/7"),
            ),
            ("create", "/experiments/create", _INCOMPLETE),
            ("write", "/experiments/set-experiment-tag", _INCOMPLETE),
            ("models", "/registered-models/create", _INCOMPLETE),
            ("absent", "/registered-models/get", _ABSENT),
            ("artifacts", "/mlflow-artifacts/artifacts", reply(200, {})),
        ):
            if path in request.path:
                return self._otherwise.get(name, usual)
        return reply(404, {})


def said_of(
    monkeypatch: pytest.MonkeyPatch, answer: Callable[[Request], Reply]
) -> tuple[str, list[Request]]:
    """The sentence on a server that answers so, whether it is an error or not."""
    with answering(answer) as (url, asked):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
        try:
            return examine_mlflow() or "", asked
        except AssayError as error:
            return f"problem: {error}", asked


@pytest.fixture(autouse=True)
def _no_file_of_logins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))


def test_one_that_is_well_is_named_with_version_and_artifacts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said, asked = said_of(monkeypatch, Mlflow())
    assert said.startswith("MLflow at http://127.0.0.1:")
    assert said.endswith(", version 3.17.2; it passes artifacts on")
    assert {each.authorization for each in asked} == {""}


def test_nothing_is_written_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for mlflow in (Mlflow(), Mlflow(experiment=_ABSENT)):
        _, asked = said_of(monkeypatch, mlflow)
        posted = [each for each in asked if each.method != "GET"]
        # Each of them lacks what it would change, and by which name.
        assert {each.body for each in posted} <= {b"{}", b'{"experiment_id": "7"}'}
        assert len(posted) == 2


@pytest.mark.parametrize(
    ("otherwise", "fact"),
    [
        (
            {"version": Reply(200, b"2.22.0")},
            "is version 2.22.0, and Assay needs MLflow",
        ),
        ({"version": Reply(200, b"4.0.1")}, "is version 4.0.1, and Assay needs MLflow"),
        ({"experiment": Reply(404)}, "is not MLflow (404"),
        (
            {
                "experiment": Reply(
                    302, location="https://sso.example/login?next=secret-9"
                )
            },
            "leads to https://sso.example/login (302), perhaps a page to log in",
        ),
        (
            {"experiment": Reply(401)},
            "wants a login (401). Set MLFLOW_TRACKING_USERNAME",
        ),
        ({"experiment": Reply(401), "health": reply(200, True)}, "is not MLflow (200"),
        ({"experiment": Reply(502)}, "fails (502). Look at its log"),
        ({"experiment": _DENIED}, "let this account read the experiment 'assay' (403)"),
        ({"experiment": reply(200, [])}, "is not MLflow (200, application/json)"),
        ({"experiment": reply(200, {"experiment": None})}, "is not MLflow (200"),
        ({"experiment": _PAGE}, "is not MLflow (200, a page"),
        (
            {"experiment": experiment("x:/", "deleted")},
            "was deleted, and its name stays",
        ),
        ({"write": _DENIED}, "let this account write to the experiment 'assay' (403)"),
        ({"write": reply(200, {})}, "is not MLflow (200"),
        (
            {"experiment": _ABSENT, "create": _DENIED},
            "this account create experiments (403)",
        ),
        ({"models": _DENIED}, "let this account register models (403)"),
        ({"absent": _DENIED}, "hides from this account which models do not exist"),
        ({"absent": reply(200, {})}, "is not MLflow (200"),
        (
            {"artifacts": _NOT_SERVED},
            "passes no artifacts on, and those of the experiment",
        ),
        ({"artifacts": Reply(500)}, "cannot read its artifacts (500)"),
        ({"artifacts": _DENIED}, "let this account read artifacts of 'assay' (403)"),
        (
            {"experiment": experiment("/srv/no-such-folder/7")},
            "which this machine cannot write",
        ),
        ({"experiment": experiment("./mlruns/7")}, "which this machine cannot write"),
        ({"experiment": experiment("")}, "which this machine cannot write"),
        (
            {"experiment": experiment("s3://bucket/7")},
            "and boto3 is not installed here",
        ),
    ],
)
def test_each_fault_is_one_sentence_with_the_next_step(
    monkeypatch: pytest.MonkeyPatch, otherwise: dict[str, Reply], fact: str
) -> None:
    said, _ = said_of(monkeypatch, Mlflow(**otherwise))
    assert said.startswith("problem: ")
    assert fact in said
    assert "secret-9" not in said


@pytest.mark.parametrize(
    ("otherwise", "fact"),
    [
        ({"experiment": _ABSENT}, "the first run makes the experiment 'assay'"),
        (
            {"experiment": _ABSENT, "artifacts": _NOT_SERVED},
            "every machine must reach its --default-artifact-root",
        ),
        # A login without the right to list everything may still use its own.
        ({"experiment": _ABSENT, "artifacts": _DENIED}, "the first run makes"),
        ({"version": Reply(200, b"3.0.0rc1")}, "version 3.0.0rc1"),
        # A proxy that lets through the API alone.
        *(
            ({"version": each}, "version not said; it passes artifacts on")
            for each in (_PAGE, Reply(404), Reply(200, b"NaN"), Reply(401), Reply(302))
        ),
        (
            {"experiment": experiment("hdfs://there/7")},
            "hdfs:// past it, which was not",
        ),
    ],
)
def test_what_is_no_fault_is_said_as_a_fact(
    monkeypatch: pytest.MonkeyPatch, otherwise: dict[str, Reply], fact: str
) -> None:
    said, _ = said_of(monkeypatch, Mlflow(**otherwise))
    assert not said.startswith("problem")
    assert fact in said


def test_a_shared_folder_that_can_be_written_will_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "a share").mkdir()
    place = experiment((tmp_path / "a share" / "7").as_uri())
    said, _ = said_of(monkeypatch, Mlflow(experiment=place))
    assert "artifacts lie in a folder that every machine must share" in said


@pytest.mark.parametrize(
    ("settings", "header"),
    [
        (("kim", "pa55word-of-kim", "a-token"), "Basic a2ltOnBhNTV3b3JkLW9mLWtpbQ=="),
        # MLflow's client takes a name only with a password.
        (("kim", "", "a-token"), "Bearer a-token"),
    ],
)
def test_it_logs_in_as_mlflows_client_does(
    monkeypatch: pytest.MonkeyPatch, settings: tuple[str, str, str], header: str
) -> None:
    names = ("USERNAME", "PASSWORD", "TOKEN")
    for name, text in zip(names, settings, strict=True):
        monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", text)
    said, asked = said_of(monkeypatch, Mlflow(experiment=Reply(401)))
    assert {each.authorization for each in asked} == {header}
    assert "does not know this login (401)" in said
    assert "pa55word" not in said
    assert "a-token" not in said


def test_a_login_in_mlflows_own_file_is_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".mlflow").mkdir()
    lines = "[mlflow]\nmlflow_tracking_username = kim\nmlflow_tracking_password = pw\n"
    (tmp_path / ".mlflow/credentials").write_text(lines)
    _, asked = said_of(monkeypatch, Mlflow())
    assert {each.authorization for each in asked} == {"Basic a2ltOnB3"}


@pytest.mark.parametrize(
    ("address", "fact"),
    [
        (" http://mlflow.example", "begins or ends with a quote or a space"),
        ("'http://mlflow.example'", "begins or ends with a quote or a space"),
        ("\u201chttp://mlflow.example\u201d", "begins or ends with a quote or a space"),
        ("http://mlflow.example/a b", "holds a space"),
        ("mlflow.example:5000", "has no http:// or https:// in front"),
        ("localhost", "has no http:// or https:// in front"),
    ],
)
def test_a_slip_in_the_address_is_named_before_anything_is_asked(
    monkeypatch: pytest.MonkeyPatch, address: str, fact: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    with pytest.raises(AssayError, match=f"^MLFLOW_TRACKING_URI {fact}"):
        examine_mlflow()


@pytest.mark.parametrize(
    "address", ["sqlite:////srv/a folder/mlflow.db", "/srv/mlruns", "databricks"]
)
def test_an_mlflow_without_a_server_is_not_asked(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    assert "is opened without a server" in (examine_mlflow() or "")


def test_without_the_setting_there_is_nothing_to_say(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert examine_mlflow() is None
