"""Who acts at the command line: the account of the terminal, or a user of MLflow's logged in there.

`assay login` adds an identity and takes none away: the account of the terminal stays in every
entry, so that one person with two logins is one person.
"""

import os
from contextlib import suppress
from dataclasses import dataclass

from core.account import LONGEST, MLFLOW, login_name, operating_system_account
from core.environment import mlflow_address
from core.errors import AssayError, OperationError, ParameterError
from core.project import Project
from core.system_record import read_record
from registry.mlflow.accounts import SERVICE, passwords_file, read_passwords
from registry.mlflow.logins import Login, keep_login, read_login, verify_login
from registry.release.environments import read_environments
from registry.release.people import People, acting_name, read_people


@dataclass(frozen=True)
class Identity:
    """Under which name and by which account somebody acts, as the ledger records it."""

    by: str
    account: str


def verified_identity(project: Project) -> Identity:
    """Who acts, asked at MLflow's server where somebody is logged in.

    `OperationError` where the login holds no more or cannot be asked for; `ParameterError` where
    `ASSAY_USER` is somebody else's name.
    """
    login = read_login(project.home)
    if login is None:
        return Identity(acting_name(project.root), operating_system_account())
    # A password that was changed since, or an account that was deleted, acts no more.
    verify_login(login)
    return identity_of(login.user)


def identity_for_brakes(project: Project) -> Identity:
    """Who acts, whatever is broken: a brake asks no server, and takes no name that is refused."""
    # The login as it is kept, unasked: its server may be what is down.
    with suppress(AssayError, OSError):
        login = read_login(project.home)
        if login is not None:
            return identity_of(login.user)
    with suppress(AssayError, OSError, ValueError):
        return Identity(acting_name(project.root), operating_system_account())
    return Identity(login_name(), operating_system_account())


def identity_of(user: str) -> Identity:
    """A user of MLflow's in this terminal; `ParameterError` where the ledger cannot hold both."""
    # Both: whoever logs in as a second user is still the person of this terminal.
    account = f"{MLFLOW}{user} by {operating_system_account()}"
    if len(account) > LONGEST:
        raise ParameterError(
            f"The user's name {user[:40]!r} is too long for the ledger beside this account. "
            "Ask MLflow's admin for a shorter one."
        )
    return Identity(user, account)


def log_in(project: Project, user: str, password: str, target: str = "") -> Login:
    """Verify a login at MLflow's server and keep it; `OperationError` where it does not hold.

    `target` is another installation of `environments.yaml`; empty: this one.
    """
    if user == SERVICE:
        raise ParameterError(
            f"{SERVICE!r} is the account of worker and controller, which is nobody's. "
            "Log in as a person."
        )
    # Refused now, and not at the first order under that name.
    identity_of(user)
    login = Login(
        server=server_of(project, target),
        user=user,
        password=password,
    )
    verify_login(login, target)
    keep_login(project.home, login, target)
    return login


def server_of(project: Project, target: str) -> str:
    """The address of MLflow's server here, or of another installation's by its name."""
    if not target:
        return find_server(project)
    environments = read_environments(project.root)
    # Only what is under version control: a password is not sent to an address that was typed.
    named = environments.target(target)
    return named.mlflow


def first_user(project: Project, user: str) -> Identity:
    """One of MLflow's first users, by the password that the home keeps, as on MLflow's pages.

    For the demo, which runs where no server does: the password is checked in the home's database
    of accounts, made where there is none. The terminal's account is not beside it, as it is not
    when the same human logs in to MLflow's pages. `OperationError` where the password was changed.
    """
    from registry.mlflow.accounts import knows_password, make_accounts

    home = project.home
    # A home in which no server ran yet has no accounts.
    if not passwords_file(home).is_file():
        make_accounts(home)
    password = recorded_password(project, user)
    if password is None or not knows_password(home, user, password):
        raise OperationError(
            f"{passwords_file(home)} does not hold the password of MLflow's {user!r}: somebody "
            "changed it, who has to act instead. Log in to MLflow's pages as that user."
        )
    return Identity(user, f"{MLFLOW}{user}")


def find_server(project: Project) -> str:
    """The address of MLflow's server; `OperationError` where none is known."""
    named = mlflow_address() or ""
    if named.lower().startswith(("http://", "https://")):
        return named
    # Otherwise the server that `assay up` runs for this home, if it runs.
    record = read_record(project.home)
    service = record.service("mlflow") if record is not None else None
    if record is None or service is None or not record.is_running():
        raise OperationError(
            "MLflow's server does not run, so nobody can say whose password that is. "
            "Start it with `assay up`, or set MLFLOW_TRACKING_URI to the team's."
        )
    return f"http://127.0.0.1:{service.port}"


def recorded_password(project: Project, user: str) -> str | None:
    """The password that the home keeps of one of MLflow's first users.

    None where there is none, or where the file belongs to another account.
    """
    path = passwords_file(project.home)
    with suppress(OSError, OperationError):
        # Who may read the file by chance is not who it was written for.
        if path.stat().st_uid == os.getuid():
            return read_passwords(project.home).get(user)
    return None


def own_user(project: Project) -> str | None:
    """The one user of MLflow's that `people.yaml` lists with this account; None where none is."""
    people = read_people(project.root)
    name = people.person_of(login_name(), operating_system_account())
    users = () if name is None else people.people[name].mlflow
    # Of several nobody can say which one is meant.
    if len(users) != 1:
        return None
    return users[0]


def describe_identity(identity: Identity, people: People) -> str:
    """One sentence: the name, the account, the person and the roles."""
    name = people.person_of(identity.by, identity.account)
    roles = [
        role
        for role in ("author", "reviewer", "approver", "release_manager", "auditor")
        if people.has_role(identity.by, identity.account, role)
    ]
    person = "nobody that people.yaml lists" if name is None else name
    may = ", ".join(roles) or "none"
    return f"{identity.by}, account {identity.account}: {person}; roles: {may}"
