"""Commands that say who acts: `assay login`, `assay logout`, `assay whoami`."""

import sys

import click

from core.console import say
from core.errors import OperationError, ParameterError

_TO = click.option(
    "--to",
    "target",
    default="",
    metavar="NAME",
    help="Another installation of environments.yaml. Default: this one.",
)


@click.command()
@click.argument("user", required=False)
@click.option(
    "--password-stdin",
    "from_stdin",
    is_flag=True,
    help="Read the password from standard input, as a script gives it.",
)
@_TO
def login(user: str | None, target: str, *, from_stdin: bool) -> None:
    """Act as USER of MLflow's from now on, beside your own account.

    Default: the user that people.yaml lists with this account. The password is that of MLflow's
    pages; it is asked for, or read from the home's passwords.json where that is yours.
    """
    from operations.identity import (
        log_in,
        own_user,
        recorded_password,
        server_of,
    )
    from operations.orders import current_project

    project = current_project()
    name = user or own_user(project)
    if not name:
        raise ParameterError(
            "people.yaml lists no single user of MLflow's with this account. "
            "Name one: `assay login USER`."
        )
    # Nobody is asked for a password that nobody could verify.
    server_of(project, target)
    # The home keeps no password of another installation's users.
    is_kept = not (from_stdin or target)
    recorded = recorded_password(project, name) if is_kept else None
    password = recorded or _ask_password(name, from_stdin=from_stdin)
    try:
        log_in(project, name, password, target)
    except OperationError:
        # A person may have changed it in MLflow since.
        if recorded is None or not sys.stdin.isatty():
            raise
        log_in(project, name, _ask_password(name, from_stdin=False))
    if target:
        say(
            f"Logged in to {target} as {name}: `assay promote … --to {target}` acts so."
        )
        return
    say(
        f"Logged in as {name}. Your own account stays on record beside it; "
        "`assay whoami` shows both, `assay logout` ends it."
    )


def _ask_password(user: str, *, from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise ParameterError(
            "There is no terminal to ask for the password. Give it with --password-stdin."
        )
    return str(click.prompt(f"Password of {user} in MLflow", hide_input=True))


@click.command()
@_TO
def logout(target: str) -> None:
    """Act as your own account alone again."""
    from operations.orders import current_project
    from registry.mlflow.logins import forget_login

    was_there = forget_login(current_project().home, target)
    say("Logged out." if was_there else "Nobody was logged in.")


@click.command()
def whoami() -> None:
    """Say who acts here, and what that person may do."""
    from operations.identity import describe_identity, verified_identity
    from operations.orders import current_project
    from registry.release.people import read_people

    project = current_project()
    identity = verified_identity(project)
    say(describe_identity(identity, read_people(project.root)))


COMMANDS: tuple[click.Command, ...] = (login, logout, whoami)
