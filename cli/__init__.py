"""The command `assay`: one file a group of commands, each of which calls the rooms below.

    project, policy, training, gate, compare, trend, base, code, data, release, review, identity,
    serving, api_key, system, upkeep, ledger, stage: each in …_commands.py
      └──> flows, operations
    status_text.py   what `assay status` prints

Exit codes: 0 passed, 1 error, 2 usage, 3 rejected, 4 undecided, 75 asked to stop (the same command
continues).
"""

import errno
from pathlib import Path
from typing import Any

import click

from cli import (
    api_key_commands,
    base_commands,
    code_commands,
    compare_commands,
    data_commands,
    gate_commands,
    identity_commands,
    ledger_commands,
    policy_commands,
    project_commands,
    release_commands,
    review_commands,
    serving_commands,
    stage_commands,
    system_commands,
    training_commands,
    trend_commands,
    upkeep_commands,
)
from core.address import redact_secrets
from core.errors import AssayError
from core.extras import describe_missing
from core.supported import describe_unsupported_python, describe_unsupported_system

# Letters: an error without a number may hold any text.
_LONGEST_CAUSE = 200


class _Commands(click.Group):
    """The one place where an error becomes an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        problem = describe_unsupported_system() or describe_unsupported_python()
        if problem is not None:
            click.echo(f"assay: {problem}", err=True)
            ctx.exit(1)
        try:
            return super().invoke(ctx)
        except AssayError as error:
            message = str(error)
            text = _printable(message)
            click.echo(f"assay: {text}", err=True)
            ctx.exit(error.exit_code)
        except ModuleNotFoundError as error:
            missing = describe_missing(error)
            # A module of Assay's own that is not there is a defect, with a traceback.
            if missing is None:
                raise
            click.echo(f"assay: {missing}", err=True)
            ctx.exit(1)
        except (OSError, ValueError) as error:
            # pydantic's errors are ValueErrors.
            sentence = _describe_error(error)
            if sentence is None:
                raise
            text = _printable(redact_secrets(sentence))
            click.echo(f"assay: {text}", err=True)
            ctx.exit(1)


def _printable(text: str) -> str:
    """Spell out halves of surrogate pairs, which a YAML or JSON file can hold and no bytes can."""
    encoded = text.encode("utf-8", "backslashreplace")
    return encoded.decode()


def _describe_error(error: Exception) -> str | None:
    """Say what a person can do about an unusable file or value.

    None for an error that only a traceback explains.
    """
    from pydantic import ValidationError

    from core.value import first_problem

    # pydantic is imported here and above only when something has failed.
    if isinstance(error, ValidationError):
        return (
            f"What was given does not fit ({error.title}, {first_problem(error)}). "
            "`assay COMMAND --help` says what each option takes."
        )
    # click itself ends where nobody reads the output any more.
    if not isinstance(error, OSError) or error.errno == errno.EPIPE:
        return None
    closed = _describe_closed_file(error)
    if closed is not None:
        return closed
    subject = error.filename or "A file or an address"
    cause = error.strerror or str(error)[:_LONGEST_CAUSE]
    cause = cause or type(error).__name__
    step = _next_step(error)
    return f"{subject} cannot be used ({cause}). {step}"


def _describe_closed_file(error: OSError) -> str | None:
    """Say which account a file belongs to that this account may not read."""
    from core.home import explain_no_access

    # Without a file name there is no owner to name.
    is_denied = error.errno in {errno.EACCES, errno.EPERM}
    if not is_denied or not isinstance(error.filename, str):
        return None
    reason = explain_no_access(Path(error.filename))
    if reason is None:
        return None
    sentence = f"{reason[:1].upper()}{reason[1:]}"
    return (
        f"{sentence}. Ask that account, or set ASSAY_HOME to a home of your own; "
        "then run the same command again."
    )


def _next_step(error: OSError) -> str:
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return (
            "Get the right to write there, or set ASSAY_HOME to a folder of your own; "
            "then run the same command again."
        )
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return "Free some disk space, then run the same command again."
    return "Fix that, then run the same command again."


@click.group(cls=_Commands)
@click.version_option(package_name="assay")
def main() -> None:
    """Fine-tune a model on your rows and serve it only if it is shown to be better."""


for _command in (
    *project_commands.COMMANDS,
    *training_commands.COMMANDS,
    *gate_commands.COMMANDS,
    *compare_commands.COMMANDS,
    *trend_commands.COMMANDS,
    *base_commands.COMMANDS,
    *code_commands.COMMANDS,
    *data_commands.COMMANDS,
    *policy_commands.COMMANDS,
    *release_commands.COMMANDS,
    *review_commands.COMMANDS,
    *identity_commands.COMMANDS,
    *serving_commands.COMMANDS,
    *api_key_commands.COMMANDS,
    *system_commands.COMMANDS,
    *upkeep_commands.COMMANDS,
    *ledger_commands.COMMANDS,
    *stage_commands.COMMANDS,
):
    # Only click is imported so far: each command imports what it calls.
    main.add_command(_command)
