"""Who acts at the command line, and who approves there."""

import base64
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.account import login_name, operating_system_account
from core.project import Project
from operations.identity import identity_for_brakes
from registry.ledger.entries import ApprovalWithdrawn, Approved, Frozen, Waived
from registry.ledger.ledger import open_ledger
from registry.mlflow.logins import login_file
from registry.release.people import FILE
from tests.support.impostors import Reply, Request, answering, reply
from tests.support.journey import Checkout, CommandResult, invoke
from tests.support.ledgers import MODEL, registered

WHY = ("--reason", "a test")
APPROVE = ("approve", "1", "--model", MODEL, *WHY)
WAIVE = ("waive", "--model", MODEL, "--until", "1h", *WHY)
OWN = operating_system_account()


class Accounts:
    """MLflow's answer to whose login it is, without the seconds that its server takes to start."""

    url = ""

    def __init__(self, **passwords: str) -> None:
        self.passwords = passwords

    def answer(self, request: Request) -> Reply:
        """As `GET users/get` answers: nothing about anybody else than who asks."""
        for user, password in self.passwords.items():
            word = base64.b64encode(f"{user}:{password}".encode()).decode()
            if request.authorization == f"Basic {word}":
                if not request.path.endswith(f"/users/get?username={user}"):
                    return reply(403, {})
                return reply(200, {"user": {"username": user, "is_admin": False}})
        return reply(401, {})


class Desk:
    """A project, a home with version 1 that lena trained, and an MLflow that knows two users."""

    def __init__(self, root: Path, home: Path, server: Accounts) -> None:
        self.root, self.home, self.server = root, home, server
        self.ledger = open_ledger(home)
        self.ledger.append(registered(), self.ledger.state())

    def assay(self, *words: str, **environment: str) -> CommandResult:
        more = {
            "ASSAY_HOME": str(self.home),
            "MLFLOW_TRACKING_URI": self.server.url,
            **environment,
        }
        return invoke(Checkout(self.root, more), *words)

    def log_in(self, user: str) -> None:
        (self.home / "passwords.json").write_text(
            f'{{"{user}": "{self.server.passwords[user]}"}}'
        )
        done = self.assay("login", user)
        assert done.code == 0, done.err

    def refuses(self, fact: str, *words: str, **environment: str) -> None:
        """One sentence with that fact, and nothing is entered."""
        head = self.ledger.state().head
        done = self.assay(*words, **environment)
        assert (done.code, done.out) == (1, ""), done.out
        (line,) = done.err.strip().splitlines()
        assert fact in line
        assert self.ledger.state().head == head

    @property
    def last(self) -> object:
        return self.ledger.entries()[-1].body


@pytest.fixture(scope="module")
def root(cloned: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of this module's own, whose people tests change."""
    made = tmp_path_factory.mktemp("people") / "assay"
    shutil.copytree(cloned, made, symlinks=True)
    return made


@pytest.fixture
def desk(root: Path, tmp_path: Path) -> Iterator[Desk]:
    text = (root / FILE).read_text()
    server = Accounts(manager="m-secret", rita="r-secret", scientist="s")
    with answering(server.answer) as (server.url, _):
        try:
            yield Desk(root, tmp_path / "home", server)
        finally:
            (root / FILE).write_text(text)


def test_a_login_is_kept_where_nobody_else_reads_it_and_both_names_go_on_record(
    desk: Desk,
) -> None:
    desk.log_in("manager")
    mode = login_file(desk.home).stat().st_mode
    assert stat.S_IMODE(mode) == 0o600
    who = desk.assay("whoami")
    assert f"manager, account mlflow:manager by {OWN}: manager" in who.out
    assert "roles: approver, release_manager" in who.out
    assert "m-secret" not in who.out
    done = desk.assay(*APPROVE)
    assert done.code == 0, done.err
    assert isinstance(desk.last, Approved)
    assert desk.last.by == "manager"
    assert desk.last.account == f"mlflow:manager by {OWN}"
    assert f"manager (mlflow:manager by {OWN})" in done.out
    back = desk.assay("disapprove", "1", "--model", MODEL, *WHY)
    assert isinstance(desk.last, ApprovalWithdrawn)
    assert "nobody's approval stands" in back.out
    desk.refuses("has not approved", "disapprove", "1", "--model", MODEL, *WHY)
    assert desk.assay("logout").out == "Logged out.\n"
    assert desk.assay("logout").out == "Nobody was logged in.\n"
    assert f"{login_name()}, account {OWN}" in desk.assay("whoami").out


def test_a_password_that_does_not_hold_logs_nobody_in(desk: Desk) -> None:
    desk.home.joinpath("passwords.json").write_text('{"manager": "old"}')
    # It was changed in MLflow, and there is no terminal to ask at.
    desk.refuses("'manager' with that password", "login", "manager")
    desk.refuses("server does not run", "login", "manager", MLFLOW_TRACKING_URI="")
    nowhere = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
    desk.refuses("127.0.0.1:9", "login", "manager", **nowhere)
    desk.refuses("no terminal to ask", "login", "rita")
    desk.refuses("worker and controller", "login", "assay", "--password-stdin")
    desk.refuses("lists no single user", "login")
    assert not login_file(desk.home).exists()


@pytest.mark.parametrize(
    "said",
    [
        reply(200, {"user": {"username": "eve"}}),
        reply(200, {"user": {"username": 7}}),
        reply(200, {"user": "rita"}),
        reply(200, ["rita"]),
        reply(200, {}),
        Reply(200, b"rita", "text/html"),
        reply(404, {}),
        reply(403, {}),
        reply(500, {}),
        Reply(302, location="http://127.0.0.1:9/"),
    ],
)
def test_a_server_that_does_not_say_whose_login_it_is_logs_nobody_in(
    desk: Desk, said: Reply
) -> None:
    desk.home.joinpath("passwords.json").write_text('{"rita": "r-secret"}')
    with answering(lambda _: said) as (url, _):
        desk.refuses("", "login", "rita", MLFLOW_TRACKING_URI=url)
    assert not login_file(desk.home).exists()


def test_a_login_is_verified_again_for_what_opens_the_way_and_not_for_a_brake(
    desk: Desk,
) -> None:
    desk.log_in("manager")
    desk.server.passwords["manager"] = "changed"
    desk.refuses("does not know 'manager' with that password", *APPROVE)
    desk.refuses("with that password", *WAIVE, "--rule", "approvals")
    desk.refuses("with that password", "promote", "1", "--model", MODEL, *WHY)
    desk.refuses("with that password", "unfreeze", *WHY)
    desk.refuses("with that password", "whoami")
    gone = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
    assert desk.assay("freeze", *WHY, **gone).code == 0
    assert isinstance(desk.last, Frozen)
    assert desk.last.account == f"mlflow:manager by {OWN}"


@pytest.mark.parametrize("damage", ["{", "", '{"server": "x"}', "open"])
def test_a_damaged_login_stops_no_brake(desk: Desk, damage: str) -> None:
    desk.log_in("manager")
    path = login_file(desk.home)
    if damage == "open":
        path.chmod(0o644)
    else:
        path.write_text(damage)
    desk.refuses("`assay login` again", *APPROVE)
    assert desk.assay("freeze", *WHY).code == 0
    assert isinstance(desk.last, Frozen)
    assert (desk.last.by, desk.last.account) == (login_name(), OWN)


@pytest.mark.parametrize("variable", ["ASSAY_USER", "LOGNAME", "USER"])
def test_nobody_acts_under_anothers_name_and_a_brake_works_all_the_same(
    desk: Desk, variable: str
) -> None:
    eve = {variable: "eve"}
    if variable == "ASSAY_USER":
        desk.refuses("nobody acts under another's name", "unfreeze", *WHY, **eve)
        desk.refuses("another's name", *WAIVE, "--rule", "approvals", **eve)
    assert desk.assay("freeze", *WHY, **eve).code == 0
    assert isinstance(desk.last, Frozen)
    assert (desk.last.by, desk.last.account) == (login_name(), OWN)


@pytest.mark.parametrize("name", ["Kim", "ｋｉｍ", "kim.b", str(os.getuid())])
def test_a_name_that_people_yaml_lists_with_the_account_is_ones_own(
    desk: Desk, name: str
) -> None:
    (desk.root / FILE).write_text(
        f"people: {{kim: {{accounts: [{os.getuid()}], mlflow: [kim.b], roles: "
        "[release_manager]}, eve: {mlflow: [eve]}}\n"
    )
    done = desk.assay(*WAIVE, "--rule", "approvals", ASSAY_USER=name)
    assert done.code == 0, done.err
    assert isinstance(desk.last, Waived)
    assert (desk.last.by, desk.last.account) == (name, OWN)
    desk.refuses("another's name", "unfreeze", *WHY, ASSAY_USER="eve")


def test_with_people_yaml_broken_nothing_is_opened_and_every_brake_works(
    desk: Desk,
) -> None:
    desk.log_in("manager")
    (desk.root / FILE).write_text("people: [")
    for order in (
        APPROVE,
        (*WAIVE, "--rule", "approvals"),
        ("promote", "1", "--model", MODEL, *WHY),
    ):
        desk.refuses("does not say who may do what", *order)
    assert desk.assay("freeze", *WHY, ASSAY_USER="eve").code == 0
    desk.assay("logout")
    found = identity_for_brakes(Project(desk.root, desk.home))
    assert (found.by, found.account) == (login_name(), OWN)


def test_the_author_approves_nothing_under_any_of_their_identities(desk: Desk) -> None:
    own = registered("2").model_copy(update={"by": login_name(), "account": OWN})
    desk.ledger.append(own, desk.ledger.state())
    desk.log_in("manager")
    words = ("approve", "2", "--model", MODEL, *WHY)
    desk.refuses("nobody approves their own", *words)
    desk.log_in("rita")
    desk.refuses("does not have the role approver", *words)
    (desk.root / FILE).write_text(
        "people: {rita: {mlflow: [rita], roles: [approver]}, lena: {accounts: [lena, "
        "'7'], mlflow: [manager], roles: [approver]}}\n"
    )
    desk.refuses("nobody approves their own", *words)
    desk.log_in("manager")
    # The manager's login is lena's, who trained version 1.
    desk.refuses("nobody approves their own", *APPROVE)
    desk.refuses("does not know version 9", "approve", "9", "--model", MODEL, *WHY)


def test_a_waiver_that_could_not_count_is_refused_at_once(desk: Desk) -> None:
    two = ("--rule", "approvals", "--rule", "human_rating")
    desk.refuses("one of them to another person", *WAIVE, *two)
    assert desk.assay(*WAIVE, "--rule", "human_rating").code == 0
    desk.refuses("one of them to another", *WAIVE, "--rule", "approvals")
    (desk.root / FILE).write_text("people: {}\ncommand_line: [author]\n")
    desk.refuses("lets release_manager waive", *WAIVE, "--rule", "freshness")
    desk.refuses("role release_manager", "promote", "1", "--model", MODEL, *WHY)
    (desk.root / FILE).write_text("people: {}\ncommand_line: [release_manager]\n")
    own = registered("1", "words").model_copy(
        update={"by": login_name(), "account": OWN}
    )
    desk.ledger.append(own, desk.ledger.state())
    words = ("waive", "--model", "words", "--until", "1h", *WHY, "--rule", "freshness")
    desk.refuses("trained every version of words", *words)
    # One version of somebody else's is enough for a waiver to count for something.
    desk.ledger.append(registered("2", "words"), desk.ledger.state())
    assert desk.assay(*words).code == 0


def test_what_lets_a_release_happen_asks_for_the_role_and_a_brake_does_not(
    desk: Desk,
) -> None:
    skip = ("skip-canary", "--model", MODEL, *WHY)
    desk.assay("freeze", *WHY)
    desk.refuses(f"No release of {MODEL} is on its way", *skip)
    (desk.root / FILE).write_text("people: {}\ncommand_line: [author]\n")
    desk.refuses("role release_manager", *skip)
    desk.refuses("role release_manager", "unfreeze", *WHY)
    assert desk.ledger.state().frozen is not None
    (desk.root / FILE).write_text("people: {}\ncommand_line: [release_manager]\n")
    desk.assay("unfreeze", *WHY)
    assert desk.ledger.state().frozen is None
