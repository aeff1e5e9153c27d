"""`assay doctor`: one line a check, with what to do where something is wrong. A check that breaks is a problem, never a crash."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

from core.console import say
from core.environment import set_library_environment
from core.errors import AssayError
from core.home import closed_to_us
from core.project import Project, find_project
from core.settings import Settings
from operations import checks
from operations.checks import Check

CHECKS: tuple[Callable[[Project], Iterator[Check]], ...] = (
    checks.python,
    checks.libraries,
    checks.git,
    checks.home,
    checks.place,
    checks.disk,
    checks.memory,
    checks.dvc_cache,
    checks.secrets,
    checks.key,
    checks.ledger,
    checks.witness,
    checks.packages,
    checks.clock,
    checks.ports,
    checks.servers,
)


def run_doctor(*, as_json: bool) -> int:
    """0 where everything is well, 1 with problems."""
    set_library_environment()
    found = examine(find_project(Settings().home))
    if as_json:
        say(json.dumps([each.model_dump(mode="json") for each in found]))
    else:
        for each in found:
            say(f"{'ok      ' if each.is_ok else 'problem '} {each.name}: {each.text}")
    return 0 if all(each.is_ok for each in found) else 1


def examine(project: Project) -> tuple[Check, ...]:
    """Every check."""
    return tuple(each for check in CHECKS for each in _carried_out(check, project))


def _carried_out(
    check: Callable[[Project], Iterator[Check]], project: Project
) -> tuple[Check, ...]:
    name = check.__name__.replace("_", " ")
    try:
        return tuple(check(project))
    except AssayError as error:
        return (Check(name=name, is_ok=False, text=str(error)),)
    except PermissionError as error:
        closed = closed_to_us(Path(str(error.filename)))
        return (
            Check(
                name=name, is_ok=False, text=f"could not be checked: {closed or error}."
            ),
        )
    except Exception as error:  # noqa: BLE001 - the doctor reports, whatever it meets
        return (
            Check(
                name=name,
                is_ok=False,
                text=f"could not be checked ({type(error).__name__}: {str(error)[:200]}).",
            ),
        )
