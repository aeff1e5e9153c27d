"""The command `assay`. Exit codes: 0 passed, 1 error, 2 usage, 3 rejected, 4 undecided, 75 told to stop (go on with the same command)."""

import errno
from pathlib import Path
from typing import Any

import click

from cli import ledger_commands as audit
from cli import release_commands as releases
from cli import serving_commands as serving
from cli import system_commands as operations
from cli import training_commands as training
from cli import upkeep_commands as keeping
from core.address import without_secrets
from core.errors import AssayError


class _Commands(click.Group):
    """The one place where an error becomes an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except AssayError as error:
            click.echo(f"assay: {_printable(str(error))}", err=True)
            ctx.exit(error.exit_code)
        except (OSError, ValueError) as error:
            said = _sentence(error)
            if said is None:
                raise
            click.echo(f"assay: {_printable(without_secrets(said))}", err=True)
            ctx.exit(1)


def _printable(text: str) -> str:
    """Halves of surrogate pairs, which a YAML or JSON file can hold, have no bytes."""
    return text.encode("utf-8", "backslashreplace").decode()


def _sentence(error: Exception) -> str | None:
    """What a person can do about a file that cannot be used or a value that does not fit; None for what only a traceback explains."""
    from pydantic import ValidationError

    from core.value import first_problem

    if isinstance(error, ValidationError):
        return f"What was given does not fit ({error.title}, {first_problem(error)}). `assay COMMAND --help` says what each option takes."
    if (
        isinstance(error, OSError) and error.errno != errno.EPIPE
    ):  # click itself ends where nobody reads any more
        closed = _closed_to_us(error)
        if closed is not None:
            return closed
        why = error.strerror or str(error)[:200] or type(error).__name__
        return f"{error.filename or 'A file or an address'} cannot be used ({why}). {_next_step(error)}"
    return None


def _closed_to_us(error: OSError) -> str | None:
    """Whose a file is that this account may not read."""
    from core.home import closed_to_us

    if error.errno not in {errno.EACCES, errno.EPERM} or not isinstance(
        error.filename, str
    ):
        return None
    why = closed_to_us(Path(error.filename))
    step = "Ask that account, or set ASSAY_HOME to a home of your own"
    return (
        None
        if why is None
        else f"{why[:1].upper()}{why[1:]}. {step}; then run the same command again."
    )


def _next_step(error: OSError) -> str:
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return "Get the right to write there, or set ASSAY_HOME to a folder of your own; then run the same command again."
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return "Free some disk space, then run the same command again."
    return "Mend that, then run the same command again."


@click.group(cls=_Commands)
@click.version_option(package_name="assay")
def main() -> None:
    """Data and a base language model to a LoRA adapter that is proven better, registered and served."""


for _command in (
    *training.COMMANDS,
    *releases.COMMANDS,
    *serving.COMMANDS,
    *operations.COMMANDS,
    *keeping.COMMANDS,
    *audit.COMMANDS,
):
    main.add_command(_command)
