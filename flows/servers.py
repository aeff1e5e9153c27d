"""The servers that a team shares: each that is configured is examined, all at the same time."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from core.errors import AssayError, OperationError
from core.team_server import SECONDS_TO_EXAMINE, Finding
from flows.schedule.examine_prefect import examine_prefect
from registry.ledger.examine import examine_ledger
from registry.mlflow.examine import examine_mlflow

SECONDS_BEFORE_A_RUN = 30.0
"""A run asks with more patience than a person does: a server may be busy."""
MLFLOW, PREFECT, LEDGER = "MLflow", "Prefect", "ledger database"
_EMBEDDED = {
    MLFLOW: "not configured (MLFLOW_TRACKING_URI): SQLite in the home",
    PREFECT: "not configured (PREFECT_API_URL): that of `assay up`, else one of the run's own",
    LEDGER: "not configured (ASSAY_LEDGER_URL): SQLite in the home",
}


def examine_servers(seconds: float = SECONDS_TO_EXAMINE) -> tuple[Finding, ...]:
    """What holds of MLflow, Prefect and the ledger's database, in this order."""
    examinations: dict[str, Callable[[float], str | None]] = {
        MLFLOW: examine_mlflow,
        PREFECT: examine_prefect,
        LEDGER: _describe_ledger,
    }
    # Together: one that is silent costs no more time than all of them.
    with ThreadPoolExecutor() as pool:
        futures = [
            pool.submit(_examine, name, examine, seconds)
            for name, examine in examinations.items()
        ]
    # In the order above, whichever answered first.
    findings = (future.result() for future in futures)
    return tuple(findings)


def check_servers() -> None:
    """Raise `OperationError` before a run that would fail hours later at one of its servers."""
    findings = examine_servers(SECONDS_BEFORE_A_RUN)
    for finding in findings:
        if not finding.is_ok:
            text = f"{finding.text} `assay doctor` checks it again."
            raise OperationError(text)


def _examine(
    name: str, examine: Callable[[float], str | None], seconds: float
) -> Finding:
    try:
        sentence = examine(seconds)
    # What goes wrong at one server must not hide what holds of the others.
    except AssayError as error:
        fact = str(error)
        return Finding(
            name=name,
            is_ok=False,
            text=fact,
        )
    text = sentence or _EMBEDDED[name]
    return Finding(name=name, is_ok=True, text=text)


def _describe_ledger(seconds: float) -> str | None:
    ledger = examine_ledger(seconds)
    if ledger is None:
        return None
    return ledger.sentence
