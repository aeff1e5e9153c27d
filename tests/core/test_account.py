"""Which account acts, whatever name it gives itself."""

import os
import pwd

import pytest

from core.account import LONGEST, is_same_account, operating_system_account
from tests.support.another_account import NOBODY, ROOT, run_as

NUMBER_WITHOUT_NAME = 54321
PRINT = "from core.account import operating_system_account as found; print(found())"


def account_as(uid: int, **environment: str) -> str:
    """What a process of that account says."""
    done = run_as(uid, "-c", PRINT, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_an_account_is_a_number_and_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUDO_UID", raising=False)
    expected = f"{os.getuid()} ({pwd.getpwuid(os.getuid()).pw_name})"
    assert operating_system_account().startswith(expected)
    assert len(operating_system_account()) <= LONGEST


def test_the_name_that_somebody_chooses_is_not_the_account() -> None:
    assert account_as(
        os.getuid(), ASSAY_USER="lena", LOGNAME="lena", USER="lena"
    ) == account_as(os.getuid())


def test_another_account_is_told_from_root_and_one_without_a_name_is_its_number() -> (
    None
):
    assert account_as(NOBODY) == f"{NOBODY} (nobody)"
    assert account_as(NUMBER_WITHOUT_NAME) == str(NUMBER_WITHOUT_NAME)


def test_root_by_sudo_names_who_became_root_and_nobody_else_can_claim_it() -> None:
    assert account_as(ROOT, SUDO_UID=str(NOBODY)) in {
        f"0 (root) for {NOBODY} (nobody)",
        account_as(ROOT),
    }
    assert account_as(NOBODY, SUDO_UID=str(NUMBER_WITHOUT_NAME)) == f"{NOBODY} (nobody)"
    assert account_as(ROOT, SUDO_UID="1; rm") == account_as(ROOT)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("1000 (kim)", "1000 (kim)", True),
        ("1000 (kim)", "1001 (lea)", False),
        ("1000 (kim)", "1000 (renamed)", True),  # one number
        ("1000 (kim)", "2000 (KIM)", True),  # one name, on two machines
        ("1000", "1000 (kim)", True),
        ("0 (root) for 1000 (kim)", "1000 (kim)", True),
        (
            "0 (root) for 1000 (kim)",
            "0 (root) for 1001 (lea)",
            True,
        ),  # whoever is root can be either
        ("0 (root)", "1000 (kim)", False),
        ("100 (a)", "1000 (b)", False),
        ("", "", True),
        ("something else", "something  else", True),
        ("mlflow:ann", "mlflow:ANN", True),
        ("mlflow:ann1", "mlflow:bob1", False),  # digits that are no account
        ("mlflow:u1000", "1000 (kim)", False),
        ("mlflow:ann by 1000 (kim)", "1000 (kim)", True),
        ("mlflow:ann by 1000 (kim)", "mlflow:ann", True),
        # One terminal, logged in as two users: one person.
        ("mlflow:ann by 1000 (kim)", "mlflow:bob by 1000 (kim)", True),
        ("mlflow:ann by 0 (root) for 1000 (kim)", "1000", True),
        ("mlflow:ann by 1000 (kim)", "mlflow:bob by 1001 (lea)", False),
    ],
)
def test_two_accounts_are_one_persons_where_they_share_a_number_or_a_name(
    one: str, other: str, same: bool
) -> None:
    assert is_same_account(one, other) is same
    assert is_same_account(other, one) is same
