"""The workflows train and release, run in a clean clone as GitHub's runner would, script by script.

Both our own and those that `assay init` writes, with words of a person that a shell would obey.
"""

import os
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import yaml
from mlflow import MlflowClient

from operations.init.project_files import Choice, workflow_file, workflows
from registry.ledger.entries import ReleaseBegun
from registry.ledger.ledger import open_ledger
from tests.support.endpoint_system import Home, endpoint
from tests.support.journey import (
    ROOT,
    SETTINGS,
    Checkout,
    Journey,
    copy_checkout,
)
from tests.support.promoted import MODEL, WAIVED, entry_kinds, waived_site
from tests.support.workflows import Runner, Trigger

pytestmark = pytest.mark.ci
BIN = Path(sys.executable).parent
REASON = 'it\'s "better" $(touch pwned) `touch pwned` ; touch pwned && <b> ${HOME}'
OWN = "our own"
WRITTEN = "as assay init writes it"


def text_of(kind: str, whose: str) -> str:
    if whose == OWN:
        return (ROOT / f".github/workflows/{kind}.yml").read_text(encoding="utf-8")
    choice = Choice(name="theirs", folder=".", model=MODEL)
    return workflows(choice)[workflow_file(".", kind)]


def runner_of(site: Checkout, scratch: Path) -> Runner:
    """A machine on which the environment is made already and `assay` is on the PATH."""
    environment = site.root / ".venv"
    environment.mkdir()
    (environment / "bin").symlink_to(BIN)
    # Newer than what it is made of: `make` has nothing to do.
    (environment / "ready").touch()
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    return Runner(site.root, scratch, {**site.environment, "PATH": path})


def trigger(model: str = MODEL, version: str = "1", reason: str = REASON) -> Trigger:
    inputs = {"model": model, "version": version, "reason": reason}
    return Trigger(inputs, {"ASSAY_MODEL": model})


def failures(path: Path) -> set[str | None]:
    cases = ET.parse(path).getroot().iter("testcase")  # noqa: S314 - it was written here
    return {case.get("name") for case in cases if case.find("failure") is not None}


def configure_model(site: Checkout, judged: Journey) -> None:
    """Have `models/letters-tiny.yaml` say what the run of the session was told by options."""
    settings = dict(setting.split("=", 1) for setting in SETTINGS)
    document = {
        "data": str(judged.data),
        "base_model": str(judged.base),
        "settings": {name: yaml.safe_load(text) for name, text in settings.items()},
    }
    path = site.root / f"models/{MODEL}.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(document), encoding="utf-8")


@pytest.mark.parametrize("whose", [OWN, WRITTEN])
def test_train_registers_a_version_and_shows_the_verdict(
    seeded: Checkout, judged: Journey, tmp_path: Path, whose: str
) -> None:
    configure_model(seeded, judged)
    runner = runner_of(seeded, tmp_path / "runner")
    # At night nobody typed a model: the repository's variable names it.
    night = Trigger({}, {"ASSAY_MODEL": MODEL})
    done = runner.run_job(text_of("train", whose), "train", night)
    assert done.code == 0, done.output
    assert f"registered as {MODEL} version 1" in runner.summary
    assert failures(runner.scratch / "gate.xml") == set()
    assert len(seeded.versions()) == 1


@pytest.mark.parametrize("model", ["no-such-model", "--help", "../x", "a; touch pwned"])
def test_train_of_what_is_no_model_fails_and_shows_no_verdict(
    checkout: Checkout, tmp_path: Path, model: str
) -> None:
    runner = runner_of(checkout, tmp_path / "runner")
    done = runner.run_job(text_of("train", WRITTEN), "train", trigger(model=model))
    assert done.code == 1, done.output
    assert runner.summary == ""
    assert not list(checkout.root.glob("pwned"))


@pytest.mark.parametrize("whose", [OWN, WRITTEN])
def test_release_judges_promotes_and_writes_the_report(
    recorded: Checkout, tmp_path: Path, whose: str
) -> None:
    site = waived_site(recorded, tmp_path / "assay")
    runner = runner_of(site, tmp_path / "runner")
    text = text_of("release", whose)
    with endpoint(Home(site.home)):
        asked = runner.run_job(text, "judge", trigger())
        assert asked.code == 0, asked.output
        assert f"Version 1 of {MODEL} is fit for release" in runner.summary
        assert "release_begun" not in entry_kinds(site)
        done = runner.run_job(text, "promote", trigger())
        assert done.code == 0, done.output
    client = MlflowClient(site.uri, site.uri)
    champion = client.get_model_version_by_alias(MODEL, "champion")
    assert str(champion.version) == "1"
    ledger = open_ledger(site.home)
    [begun] = [
        entry.body for entry in ledger.entries() if isinstance(entry.body, ReleaseBegun)
    ]
    reason = f"{REASON} (started by octocat, run 42)"
    assert ledger.recall(begun.reason_sha256) == reason
    report = (runner.scratch / "report.html").read_text(encoding="utf-8")
    assert "touch pwned" in report
    assert not list(site.root.glob("pwned"))


def test_what_is_not_fit_ends_before_a_reviewer_is_asked(
    recorded: Checkout, tmp_path: Path
) -> None:
    site = copy_checkout(recorded, tmp_path / "assay")
    runner = runner_of(site, tmp_path / "runner")
    text = text_of("release", OWN)
    asked = runner.run_job(text, "judge", trigger())
    assert asked.code == 4, asked.output
    assert "is not yet fit for release" in runner.summary
    assert failures(runner.scratch / "gate.xml") == set(WAIVED)
    assert yaml.safe_load(text)["jobs"]["promote"]["needs"] == "judge"
    assert yaml.safe_load(text)["jobs"]["promote"]["environment"] == "production"


@pytest.mark.parametrize(
    "version", ["--help", "1; touch pwned", "../1", "$(id)", "1/../2"]
)
def test_release_of_what_is_no_version_is_wrong_usage(
    recorded: Checkout, tmp_path: Path, version: str
) -> None:
    site = copy_checkout(recorded, tmp_path / "assay")
    runner = runner_of(site, tmp_path / "runner")
    text = text_of("release", WRITTEN)
    asked = runner.run_job(text, "judge", trigger(version=version))
    assert asked.code == 2, asked.output
    # Even where somebody started the second job alone.
    done = runner.run_job(text, "promote", trigger(version=version))
    assert done.code == 1, done.output
    assert "release_begun" not in entry_kinds(site)
    assert not list(site.root.glob("pwned"))


def test_check_of_a_new_project_says_what_the_first_gate_does(
    checkout: Checkout, judged: Journey, tmp_path: Path
) -> None:
    configure_model(checkout, judged)
    runner = runner_of(checkout, tmp_path / "runner")
    # The wheel of the repository's variable: here what is installed already.
    wheel = Trigger({}, {"ASSAY_WHEEL": "assay"})
    done = runner.run_job(text_of("check", WRITTEN), "admit", wheel)
    assert done.code == 0, done.output
