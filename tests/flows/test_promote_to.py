"""`assay promote --to`: from staging to prod, each with its own home, ledger, keys and MLflow.

Prod is a real `assay up`: its MLflow has accounts, its controller takes the version in, its policy
judges, and its endpoint answers.
"""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from registry.ledger.entries import Approved, Received, Revoked
from registry.ledger.ledger import open_ledger
from registry.mlflow.accounts import read_passwords
from registry.release.environments import FILE
from registry.release.people import FILE as PEOPLE_FILE
from tests.support.endpoint_system import Home, endpoint
from tests.support.journey import (
    Checkout,
    CommandResult,
    copy_checkout,
    invoke,
    make_checkout,
)
from tests.support.ledgers import write
from tests.support.promoted import (
    MODEL,
    WAIVED,
    System,
    entry_kinds,
    system_of,
    waive,
    waived_site,
)
from tests.support.waiting import wait_until

pytestmark = pytest.mark.ci
PEOPLE = f"""\
people:
  manager:
    mlflow: [manager]
    # The account that trained in staging: this human is the author.
    accounts: [{os.getuid()}]
    roles: [release_manager, approver]
  scientist: {{mlflow: [scientist], roles: [author]}}
command_line: [author, release_manager]
"""


@pytest.fixture(scope="module")
def staging(recorded: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Version 1 was released there."""
    site = waived_site(recorded, tmp_path_factory.mktemp("staging") / "assay")
    with endpoint(Home(site.home)):
        promotion = invoke(
            site, "promote", "1", "--model", MODEL, "--reason", "it is better"
        )
        assert promotion.code == 0, promotion.out + promotion.err
    return site


@pytest.fixture(scope="module")
def prod(
    staging: Checkout,
    cloned: Path,
    empty_mlflow: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[System]:
    """It has the base model, and lists staging's key as `assay audit keys` prints it there."""
    root = tmp_path_factory.mktemp("prod") / "assay"
    site = make_checkout(root, cloned, empty_mlflow)
    # A package names the base by its digest: people bring it.
    bases = staging.home / "base-models"
    shutil.copytree(bases, site.home / "base-models", symlinks=True)
    (site.root / PEOPLE_FILE).write_text(PEOPLE)
    (site.root / FILE).write_text(
        f"receives_from:\n  staging: {{ledger_key: {controller_key(staging)}}}\n"
    )
    with system_of(site) as running:
        address = f"http://127.0.0.1:{running.up.ports.mlflow}"
        (staging.root / FILE).write_text(f"targets:\n  prod: {{mlflow: '{address}'}}\n")
        yield running


def controller_key(site: Checkout) -> str:
    """The whole id that `assay audit keys` prints for the controller's key."""
    printed = invoke(site, "audit", "keys", "--whole").out
    (line,) = [line for line in printed.splitlines() if "controller" in line]
    return line.split()[0]


def log_in(staging: Checkout, prod: System, user: str) -> CommandResult:
    password = read_passwords(prod.checkout.home)[user]
    from click.testing import CliRunner

    from cli import main

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(staging.root)
        result = CliRunner().invoke(
            main,
            ["login", user, "--to", "prod", "--password-stdin"],
            input=f"{password}\n",
        )
    return CommandResult(result.exit_code, result.stdout, result.stderr)


def promote(staging: Checkout, *more: str) -> CommandResult:
    order = ("promote", "1", "--model", MODEL, "--reason", "it did well in staging")
    return staging.assay(*order, "--to", "prod", *more)


def received(prod: System) -> list[Received]:
    bodies = [entry.body for entry in open_ledger(prod.checkout.home).entries()]
    return [body for body in bodies if isinstance(body, Received)]


@dataclass(frozen=True)
class Told:
    """What the command line said, in this order, until prod released the version."""

    nobody: CommandResult
    refusal: CommandResult
    with_the_authors_approval: CommandResult
    granted: CommandResult
    again: CommandResult
    by_scientist: CommandResult
    kinds: tuple[list[str], list[str]]
    """Of prod's entries: after the release, and after all that was asked then."""


@pytest.fixture(scope="module")
def told(staging: Checkout, prod: System) -> Told:
    """From nobody being logged in to a release, and what is asked after it.

    Whoever promotes does it here: once prod has read a later ledger of staging, it believes no
    earlier one, and the tests may run in any order.
    """
    nobody = promote(staging)
    assert log_in(staging, prod, "manager").code == 0
    refusal = promote(staging, "--json")
    assert refusal.code == 4, refusal.out + refusal.err + prod.logs()
    (entry,) = received(prod)
    # The author of staging approves nothing here, under whatever name.
    approval = Approved(
        by="manager",
        account="mlflow:manager",
        reason_sha256="0" * 64,
        model=MODEL,
        version="1",
        package_sha256=entry.package_sha256,
    )
    write(open_ledger(prod.checkout.home), approval)
    approved = promote(staging)
    shows_where_it_came_from(prod)
    for rule in WAIVED:
        waive(prod.checkout, rule)
    granted = promote(staging, "--wait", "--json")
    assert granted.code == 0, granted.out + granted.err + prod.logs()
    released = entry_kinds(prod.checkout)
    again = promote(staging, "--wait")
    assert log_in(staging, prod, "scientist").code == 0
    by_scientist = promote(staging)
    assert log_in(staging, prod, "manager").code == 0
    kinds = released, entry_kinds(prod.checkout)
    return Told(nobody, refusal, approved, granted, again, by_scientist, kinds)


def test_prod_judges_by_its_own_policy(told: Told, prod: System) -> None:
    assert told.nobody.code == 1
    assert "Nobody is logged in to prod" in told.nobody.err
    # What staging waived is not waived here, and its verdict does not count.
    said = told.refusal.out
    assert "0 people rated the answers, the policy asks for 3" in said
    assert "0 approvals" in said
    assert "asks for 1" in said
    assert told.refusal.last["version_there"] == "1"
    assert "0 approvals" in told.with_the_authors_approval.out
    (entry,) = received(prod)
    assert entry.origin.name == "staging"
    assert entry.released_by is not None


def test_prod_then_answers_with_what_was_scored_in_staging(
    told: Told, staging: Checkout, prod: System
) -> None:
    assert "is champion there" in told.granted.out
    # It was found again: no second version, and no second entry.
    assert len(received(prod)) == 1
    there = open_ledger(staging.home).state().model(MODEL).current
    here = prod.settled().current
    assert there is not None
    assert here is not None
    assert here.release.spec == there.release.spec
    assert here.release.signed_by == there.release.signed_by
    answer = prod.answer()
    assert answer.json()["system_fingerprint"] == there.release.fingerprint
    # Asked for once more, nothing changes.
    assert told.again.code == 0, told.again.err
    before, after = told.kinds
    assert after == before


def shows_where_it_came_from(prod: System) -> None:
    """The version's page, within a round or two of the controller, and its report."""

    def is_shown() -> bool:
        (version,) = prod.checkout.versions()
        text = str(version.description)
        return "not yet" in text and "Received from staging" in text

    wait_until(is_shown, 60, prod.logs)
    page = prod.checkout.root / "report.html"
    made = invoke(
        prod.checkout, "release", "report", "1", "--model", MODEL, "--out", page
    )
    assert made.code == 0, made.err
    assert "Where it came from" in page.read_text()


def test_who_is_no_release_manager_in_prod_releases_nothing_there(told: Told) -> None:
    # The version is there already; to ask for its release takes the role.
    assert told.by_scientist.code != 0
    assert "does not allow that as 'scientist'" in told.by_scientist.err
    before, after = told.kinds
    assert after.count("release_begun") == before.count("release_begun")


@pytest.mark.usefixtures("told")
def test_prod_names_the_origin_offline(prod: System) -> None:
    verified = invoke(prod.checkout, "audit", "verify")
    assert "received from staging" in verified.out
    assert "received from staging" in invoke(prod.checkout, "history").out


@pytest.mark.usefixtures("told")
def test_a_revocation_in_staging_is_brought_to_prod_as_an_export(
    staging: Checkout, prod: System, tmp_path: Path
) -> None:
    # A copy is revoked, so that the other tests find staging as it was.
    revoking = copy_checkout(staging, tmp_path / "assay")
    revoked = Revoked(by="olga", reason_sha256="0" * 64, model=MODEL, version="1")
    # Staging's own brake: nothing of it reaches prod by itself.
    write(open_ledger(revoking.home), revoked)
    assert "it is revoked there" in promote(revoking).err
    export = tmp_path / "staging.jsonl"
    assert invoke(revoking, "audit", "export", export).code == 0
    imported = invoke(prod.checkout, "audit", "import", export)
    assert imported.code == 0, imported.err
    assert f"{MODEL} version 1 was revoked in staging" in imported.out
    # The controller says it to people, too; what serves goes on until somebody decides.
    log = prod.checkout.home / "logs" / "controller.log"
    wait_until(lambda: "was revoked in staging" in log.read_text(), 60, prod.logs)
    assert prod.answer().status_code == 200
