"""`assay doctor`: every check of this machine and this home.

A check that fails is a problem, never a crash.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from core.environment import set_library_environment
from core.errors import AssayError
from core.home import explain_no_access
from core.project import Project, find_project
from core.settings import Settings
from operations import checks
from operations.admission_check import admission
from operations.checks import Check
from operations.project_files import project_files

CHECKS: tuple[Callable[[Project], Iterator[Check]], ...] = (
    checks.python,
    checks.system,
    checks.libraries,
    checks.git,
    project_files,
    checks.home,
    checks.place,
    checks.disk,
    checks.memory,
    checks.team_servers,
    admission,
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
_OF_THE_LEDGER = (checks.key, checks.ledger, checks.packages, checks.clock)
"""Each asks the ledger: one that hangs would be waited for again and again."""
_LONGEST_ERROR = 200


def examine_current_home() -> tuple[Check, ...]:
    """Examine the home of this project; `WorkspaceError` where there is none."""
    set_library_environment()
    return examine(find_project(Settings().home))


def examine(project: Project) -> tuple[Check, ...]:
    """Carry out every check, and give its findings in order."""
    findings: list[Check] = []
    for check in CHECKS:
        if check in _OF_THE_LEDGER and _is_ledger_away(findings):
            continue
        findings_of_check = _carry_out(check, project)
        findings.extend(findings_of_check)
    return tuple(findings)


def _is_ledger_away(findings: Sequence[Check]) -> bool:
    """Whether the check of its database found that it cannot be used."""
    from flows.servers import LEDGER

    for finding in findings:
        if finding.name == LEDGER:
            return not finding.is_ok
    return False


def _carry_out(
    check: Callable[[Project], Iterator[Check]], project: Project
) -> tuple[Check, ...]:
    try:
        # All findings of a check count, or none: a generator may fail in the middle.
        return tuple(check(project))
    except AssayError as error:
        text = str(error)
    # The usual cause is a home of another account, and `explain_no_access` names that account.
    except PermissionError as error:
        reason = explain_no_access(Path(str(error.filename)))
        text = f"could not be checked: {reason or error}."
    except Exception as error:  # noqa: BLE001 - the doctor reports, whatever it meets
        cause = f"{type(error).__name__}: {str(error)[:_LONGEST_ERROR]}"
        text = f"could not be checked ({cause})."
    name = check.__name__.replace("_", " ")
    return (Check(name=name, is_ok=False, text=text),)
