"""`assay gate judge`: what a promotion would say, with nothing released and nothing entered."""

from contextlib import chdir
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from mlflow import MlflowClient

from flows.promote import Promotion
from operations.release_report.publish import attach_to_promoted
from pipelines.values.verdict import Finding, Undecided
from tests.support.journey import Checkout, CommandResult, copy_checkout, invoke
from tests.support.promoted import MODEL, WAIVED, entry_kinds, waive, waived_site

ADDRESS = f"models:/{MODEL}/1"


@pytest.fixture
def site(recorded: Checkout, tmp_path: Path) -> Checkout:
    return copy_checkout(recorded, tmp_path / "assay")


def judge(site: Checkout, *more: str, address: str = ADDRESS) -> CommandResult:
    return invoke(site, "gate", "judge", address, "--json", *more)


def page(site: Checkout) -> dict[str, str]:
    return dict(MlflowClient(site.uri, site.uri).get_model_version(MODEL, "1").tags)


def test_a_judgement_says_what_a_promotion_would_and_changes_nothing(
    site: Checkout, tmp_path: Path
) -> None:
    kinds, tags = entry_kinds(site), page(site)
    junit, markdown = tmp_path / "out.xml", tmp_path / "out.md"
    answer = judge(site, "--junit", str(junit), "--markdown", str(markdown))
    assert answer.code == 4, answer.out + answer.err
    undecided = {
        each["rule"]
        for each in answer.last["findings"]
        if each["outcome"] == "undecided"
    }
    assert undecided == set(WAIVED)
    assert answer.last["is_recorded"] is False
    suite = ET.parse(junit).getroot()[0]  # noqa: S314 - it was written here
    failures = {case.get("name") for case in suite if case.find("failure") is not None}
    assert failures == undecided
    first = markdown.read_text(encoding="utf-8").splitlines()[0]
    assert first == (
        f"### ❔ Version 1 of {MODEL} is not yet fit for release: "
        "2 of 14 rules are undecided (human_rating, approvals)."
    )
    assert (entry_kinds(site), page(site)) == (kinds, tags)


def test_a_fit_version_passes_by_number_and_by_alias(
    recorded: Checkout, tmp_path: Path
) -> None:
    site = waived_site(recorded, tmp_path / "assay")
    kinds = entry_kinds(site)
    for address in (ADDRESS, f"models:/{MODEL}@challenger"):
        answer = judge(site, address=address)
        assert answer.code == 0, answer.out + answer.err
        assert (answer.last["verdict"], answer.last["version"]) == ("passed", "1")
        assert len(answer.last["waivers"]) == len(WAIVED)
        assert "14 of 14 rules passed, 2 of them by a waiver." in answer.out
    assert entry_kinds(site) == kinds


def test_a_recorded_judgement_is_in_the_ledger_and_on_the_page(site: Checkout) -> None:
    answer = judge(site, "--record")
    assert (answer.code, answer.last["is_recorded"]) == (4, True)
    assert entry_kinds(site)[-1] == "judged"
    assert page(site)["assay.judge"] == "undecided"


def test_a_revoked_version_is_rejected(site: Checkout) -> None:
    waive(site, "approvals")
    order = ("revoke", "1", "--model", MODEL, "--reason", "a test")
    invoke(site, *order)
    assert judge(site).code == 3


@pytest.mark.parametrize(
    ("address", "fact"),
    [
        (f"models:/{MODEL}/7", "There is no version 7"),
        (f"models:/{MODEL}@champion", "There is no version @champion"),
        ("models:/nobody/1", "There is no version 1 of nobody"),
    ],
)
def test_a_version_that_is_not_there_is_an_error(
    site: Checkout, address: str, fact: str
) -> None:
    answer = judge(site, address=address)
    assert answer.code == 1
    assert fact in answer.err


def test_the_report_of_a_version_is_written_and_attached_to_its_run(
    site: Checkout, tmp_path: Path
) -> None:
    kinds, out = entry_kinds(site), tmp_path / "report.html"
    order = ("release", "report", "1", "--model", MODEL, "--attach", "--out", str(out))
    answer = invoke(site, *order)
    assert answer.code == 0, answer.out + answer.err
    text = out.read_text(encoding="utf-8")
    assert "2 of 14 rules are undecided" in text
    assert "Worst regressions" in text
    assert entry_kinds(site) == kinds
    client = MlflowClient(site.uri, site.uri)
    run_id = client.get_model_version(MODEL, "1").run_id
    assert run_id is not None
    [artifact] = client.list_artifacts(run_id, "release_report")
    assert artifact.path == f"release_report/{MODEL}-1.html"


def test_a_scored_run_holds_its_page_and_metrics_to_compare_it_by(
    site: Checkout, tmp_path: Path
) -> None:
    client = MlflowClient(site.uri, site.uri)
    run_id = client.get_model_version(MODEL, "1").run_id
    assert run_id is not None
    page = client.download_artifacts(run_id, "scorecard.html", str(tmp_path))
    text = Path(page).read_text(encoding="utf-8")
    assert f"of {MODEL} passed screen: " in text
    assert "What is not covered" in text
    metrics = client.get_run(run_id).data.metrics
    assert metrics["better.chrf.base.low"] > 0
    assert metrics["score.adapter.chrf"] > metrics["score.base.chrf"]
    assert metrics["held_out.groups"] > 0
    # The page is about the version and no part of what is judged.
    paths = [each.path for each in client.list_artifacts(run_id)]
    assert "scorecard.html" in paths
    package = site.home / "packages"
    assert not list(package.rglob("scorecard.html"))


def test_a_version_is_compared_with_the_run_that_made_it(site: Checkout) -> None:
    client = MlflowClient(site.uri, site.uri)
    run_id = client.get_model_version(MODEL, "1").run_id
    assert run_id is not None
    answer = invoke(site, "compare", f"models:/{MODEL}/1", run_id, "--json")
    assert answer.code == 0, answer.out + answer.err
    assert answer.last["first"] == f"version 1 of {MODEL}"
    assert answer.last["metrics"][0]["difference"] == 0


def test_a_report_that_cannot_be_attached_is_said_and_nothing_fails(
    site: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    (site.home / "ledger.db").unlink()
    findings = (Finding(rule="approvals", outcome="undecided", text="0 of 1"),)
    verdict = Undecided(gate="judge", findings=findings, policy_sha256="p" * 64)
    judged = Promotion(model=MODEL, version="1", verdict=verdict, released=None)
    with chdir(site.root):
        attach_to_promoted(judged)
    said = capsys.readouterr().out
    assert "The report of version 1 was not attached: " in said
    assert said.endswith("`assay release report 1 --attach` tries again.\n")


def test_a_report_on_what_is_no_version_is_an_error(site: Checkout) -> None:
    answer = invoke(site, "release", "report", "9", "--model", MODEL)
    assert (answer.code, "There is no version 9" in answer.err) == (1, True)


def test_without_a_ledger_nothing_is_judged_and_none_is_opened(site: Checkout) -> None:
    ledger = site.home / "ledger.db"
    ledger.unlink()
    answer = judge(site)
    assert (answer.code, ledger.exists()) == (1, False)
    assert "ledger" in answer.err
