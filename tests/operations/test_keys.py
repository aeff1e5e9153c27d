"""Keys from the command line: listed, replaced, revoked, and what the doctor says of them."""

from pathlib import Path

import pytest

from core.project import Project
from operations.checks import key as check_keys
from operations.keys import list_keys
from registry.ledger.enrolment import enrol, enrol_packaging
from registry.ledger.entries import Role
from registry.ledger.ledger import open_ledger
from tests.support.commands import assay
from tests.support.journey import ROOT


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with a key of each role."""
    monkeypatch.delenv("ASSAY_LEDGER_URL", raising=False)
    monkeypatch.setenv("ASSAY_HOME", str(tmp_path / "home"))
    ledger = open_ledger(tmp_path / "home")
    enrol(ledger, "admission", "olga")
    enrol_packaging(ledger, "olga")
    return tmp_path / "home"


def standings() -> list[tuple[str, bool, str]]:
    return [(each.key.role, each.is_here, each.standing) for each in list_keys()]


def test_the_keys_of_each_role_are_listed_with_where_they_are(home: Path) -> None:
    assert standings() == [
        ("controller", True, "trusted"),
        ("admission", True, "trusted"),
        ("packaging", True, "trusted"),
    ]
    lines = assay("audit", "keys").stdout.splitlines()
    assert [line.split()[1] for line in lines] == [
        "controller",
        "admission",
        "packaging",
    ]


@pytest.mark.parametrize("role", ["controller", "admission", "packaging"])
def test_a_key_of_any_role_is_replaced_and_the_old_one_revoked(
    home: Path, role: Role
) -> None:
    before = {each.key.role: each.key for each in list_keys()}
    done = assay("audit", "rotate-key", "--role", role, "--reason", "every year")
    assert done.exit_code == 0, done.output
    after = {each.key.role: each.key for each in list_keys() if each.is_here}
    assert after[role].key_id != before[role].key_id
    assert after[role].key_id[:12] in done.stdout
    others = [each for each in before if each != role]
    assert all(after[each] == before[each] for each in others)
    # One entry each for the new key and the old one.
    assert (role, False, "revoked at entry 5") in standings()
    assert assay("audit", "verify").exit_code == 0


def test_a_stolen_key_is_revoked_and_the_history_says_so(home: Path) -> None:
    key = list_keys()[2].key
    done = assay(
        "audit", "revoke-key", key.key_id[:12], "--reason", "stolen", "--compromised"
    )
    assert done.exit_code == 0, done.output
    assert "(packaging) is revoked as compromised" in done.stdout
    history = assay("history").stdout
    assert "packaging key added" in history
    assert "key revoked as compromised by" in history
    assert standings()[2] == (
        "packaging",
        True,
        "revoked at entry 4, compromised (entry 4)",
    )


def test_a_key_is_revoked_with_a_reason_and_by_a_name_that_fits(home: Path) -> None:
    key = list_keys()[2].key
    refused = assay("audit", "revoke-key", key.key_id[:12], "--reason", " ")
    assert refused.exit_code == 1
    refused = assay("audit", "revoke-key", "abc", "--reason", "stolen")
    assert refused.exit_code == 1
    assert "assay audit keys" in refused.stderr
    assert len(standings()) == 3


def test_the_doctor_looks_at_every_key_of_this_home(home: Path) -> None:
    project = Project(ROOT, home)
    assert [check.is_ok for check in check_keys(project)] == [True] * 3
    key = list_keys()[2].key
    assay("audit", "revoke-key", key.key_id, "--reason", "stolen")
    bad = [check.text for check in check_keys(project) if not check.is_ok]
    assert len(bad) == 1
    assert bad[0].startswith(f"packaging {key.key_id[:12]} was revoked at entry 4")
    assert "rotate-key --role packaging" in bad[0]
