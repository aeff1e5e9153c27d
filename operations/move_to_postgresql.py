"""`assay move-to-postgresql`: ledger and MLflow's records from the home into PostgreSQL.

The settings say where, the same that `assay up` reads afterwards, so that no password is typed on
a command line. Each copy is complete or absent, and is compared with its source. Last of all the
home is marked: until then it is used as before, and from then on only with the settings.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from core.environment import set_library_environment
from core.errors import LedgerError, OperationError
from core.locks import (
    alone,
    endpoint_lock,
    exclusive,
    is_held,
    up_lock,
    without_servers,
)
from core.moved_records import MovedRecords, moved_file, read_moved
from core.progress import progress_bar
from core.project import Project, find_project
from core.settings import Settings
from flows.schedule.pauses import paused_deployments
from registry.ledger.audit import known_heads, verify
from registry.ledger.database import Database
from registry.ledger.entries import Entry
from registry.ledger.ledger import (
    TABLES,
    Ledger,
    fill_ledger,
    ledger_url,
    was_ever_opened,
)
from registry.mlflow import own_database
from registry.postgresql import (
    check_database,
    engine_of,
    is_same_database,
    parse_postgresql,
    postgresql_address,
    public_place,
)
from registry.release.replica_table import TABLE as REPLICAS

LEDGER, PREFECT = "ASSAY_LEDGER_URL", "ASSAY_PREFECT_DATABASE_URL"
MLFLOW = own_database.SETTING
_PATIENCE = 2.0
"""Seconds to wait for whoever uses the home."""
_TABLES_OF_MLFLOW = 64


@dataclass(frozen=True)
class Targets:
    """Where to: the settings as they are, empty for what stays. They may hold passwords."""

    ledger: str
    mlflow: str
    prefect: str

    @classmethod
    def from_settings(cls) -> "Targets":
        """Read them; `OperationError` where nothing is set or two are one database."""
        settings = Settings()
        targets = cls(
            settings.ledger_url,
            settings.mlflow_database_url,
            settings.prefect_database_url,
        )
        targets.check()
        return targets

    def check(self) -> None:
        """`OperationError` where nothing is to be moved, or two would share a database."""
        named = {LEDGER: self.ledger, MLFLOW: self.mlflow, PREFECT: self.prefect}
        given = {
            name: parse_postgresql(name, address)
            for name, address in named.items()
            if address
        }
        # Prefect begins anew in any case, so that its address alone moves nothing.
        has_target = bool(self.ledger or self.mlflow)
        if not has_target:
            raise OperationError(
                f"Nothing says where to. Set {LEDGER} and {MLFLOW} to empty databases"
                " (postgresql://USER@HOST/NAME), and run this again."
            )
        for name, url in given.items():
            for other, its_url in given.items():
                if name < other and is_same_database(url, its_url):
                    raise _shared(name, other)


def run_move() -> str:
    """Move what the settings name, and say what was moved and what to do next.

    `OperationError` where something uses the home; `LedgerError` or `RegistryError` where a copy
    cannot be complete. The home is used as before then.
    """
    set_library_environment()
    project = find_project(Settings().home)
    targets = Targets.from_settings()
    # Before the locks: a database that does not answer must not hold up the home.
    _check_databases(targets)
    with _unused(project.home):
        return move(project, targets)


def _check_databases(targets: Targets) -> None:
    """Ask all of them before the first byte is written to any."""
    from registry.mlflow.copy_records import is_mlflows

    rules: dict[str, tuple[str, Callable[[set[str]], bool]]] = {
        LEDGER: (targets.ledger, (TABLES | {REPLICAS}).issuperset),
        MLFLOW: (targets.mlflow, is_mlflows),
        PREFECT: (targets.prefect, lambda tables: "flow_run" in tables),
    }
    seen: dict[str, str] = {}
    for setting, (address, is_own) in rules.items():
        if not address:
            continue
        identity = check_database(setting, address, is_own)
        # `localhost` and `127.0.0.1` are two hosts to whoever reads the addresses alone.
        if identity in seen:
            raise _shared(seen[identity], setting)
        seen[identity] = setting


def _shared(one: str, other: str) -> OperationError:
    return OperationError(
        f"{one} and {other} are one database."
        " Give each its own: their tables have the same names."
    )


def move(project: Project, targets: Targets) -> str:
    """Copy, compare, and mark the home; nobody else may use it meanwhile."""
    home = project.home
    # The ledger may have gone first, and MLflow's records follow now.
    before = read_moved(home)
    sentences: list[str] = []
    with ExitStack() as held:
        ledger = before.ledger if before else None
        if targets.ledger and ledger is None:
            ledger = _move_ledger(home, held, sentences)
        mlflow = before.mlflow if before else None
        if targets.mlflow and mlflow is None:
            mlflow = _move_mlflow(home, targets.mlflow, held, sentences)
        if not sentences:
            raise OperationError(_nothing_to_move(home, before))
        # Under the locks of both files: whoever waits for one of them is told of the mark.
        moved = MovedRecords(
            at=datetime.now(UTC), home=str(home.resolve()), ledger=ledger, mlflow=mlflow
        )
        _mark(home, moved)
    return "\n".join([*sentences, *_remarks(home, targets, ledger, mlflow)])


def _mark(home: Path, moved: MovedRecords) -> None:
    path = moved_file(home)
    try:
        moved.write(path)
    except OSError as error:
        raise OperationError(
            f"{path} cannot be written ({error.strerror}), so the home is used as before."
            " Make room, and run this again: what was copied is kept."
        ) from error


def _move_ledger(home: Path, held: ExitStack, sentences: list[str]) -> str | None:
    path = home / "ledger.db"
    if not path.is_file():
        # Without a file and with traces the ledger is lost, or was in PostgreSQL all along.
        return None
    source = Ledger(home, Database(f"sqlite:///{path}"))
    # Nobody enters anything until the home is marked.
    held.enter_context(source.database.writing())
    entries = source.entries()
    target = _continuation(home, entries)
    if target is None:
        # Before anything is written: a ledger that was cut is not moved in silence.
        _check_whole(source)
        target = fill_ledger(home, entries, source.texts().values())
        if target.texts() != source.texts():
            raise LedgerError(
                f"The ledger {target.database.name} has these entries with other reasons. Empty"
                " it with `dropdb` and `createdb`, and run this again."
            )
    _check_whole(target)
    place = public_place(target.database.name)
    head = target.state().head
    reasons = len(target.texts())
    # Somebody may have gone on there after a move that was interrupted.
    is_as_before = head.generation == len(entries)
    fact = "as before" if is_as_before else "newer than the file's"
    sentences.append(
        f"The ledger is in {place}: {head.generation:,} entries and {reasons:,}"
        f" reasons, the last entry {head.hash[:12]} {fact}, every signature verified."
    )
    return place


def _continuation(home: Path, entries: Sequence[Entry]) -> Ledger | None:
    """The ledger in PostgreSQL, where it holds these entries and newer ones; None otherwise.

    A move that was interrupted had copied it, and somebody went on there with the settings.
    """
    target = Ledger(home, Database(ledger_url(home)))
    # One without tables; whatever else is wrong is said by whoever fills it.
    with suppress(LedgerError):
        present = target.entries()
        known = len(entries)
        is_newer = len(present) > known
        # Entry by entry: another history of the same length is no continuation.
        if is_newer and present[:known] == entries:
            return target
    return None


def _check_whole(ledger: Ledger) -> None:
    """`LedgerError` where an entry does not verify, or one is missing that others remember."""
    heads, _ = known_heads(ledger.home, ledger.state())
    report = verify(ledger, heads)
    if not report.is_whole:
        raise LedgerError(
            f"The ledger {ledger.database.name} is not whole ({report.problem}) It was not moved:"
            " look at it with `assay audit verify`, or restore a backup."
        )


def _move_mlflow(
    home: Path, address: str, held: ExitStack, sentences: list[str]
) -> str | None:
    from registry.mlflow.copy_records import copy_records, unchanging

    database = own_database.own_file(home)
    if not database.is_file():
        return None
    target = postgresql_address(MLFLOW, address, "psycopg")
    # Held until the mark is written, as the ledger is: no run is recorded in between.
    source = held.enter_context(unchanging(database))
    engine = engine_of(target)
    with progress_bar("copying MLflow's records", _TABLES_OF_MLFLOW) as advance:
        copied = copy_records(source, engine, advance)
    place = public_place(target)
    fact = "were there already" if copied.was_there else "were copied"
    sentences.append(
        f"MLflow's records are in {place}: {copied.rows:,} rows of {copied.tables} tables"
        f" {fact}, each equal to its source."
    )
    return place


def _nothing_to_move(home: Path, before: MovedRecords | None) -> str:
    if before is not None:
        return (
            f"The records of {home} were moved on {before.at:%Y-%m-%d %H:%M} UTC already, as"
            f" {moved_file(home)} says. `assay up` uses them."
        )
    if was_ever_opened(home):
        return (
            f"{home} holds no ledger.db and no mlflow.db, so there is nothing to move."
            " Restore it with `assay restore`, where it is lost."
        )
    return f"{home} holds no records yet. `assay up` makes them in PostgreSQL."


def _remarks(
    home: Path, targets: Targets, ledger: str | None, mlflow: str | None
) -> Iterator[str]:
    names = [LEDGER] if ledger else []
    names += [MLFLOW] if mlflow else []
    names += [PREFECT] if targets.prefect else []
    yield (
        f"From now on set {' and '.join(names)} wherever `assay` runs, as now. The SQLite files"
        f" stay in {home} as they were; Assay does not use them any more."
    )
    if not ledger:
        yield f"The ledger was not moved: there is none, or {LEDGER} is not set."
    if not mlflow:
        yield f"MLflow's records were not moved: there are none, or {MLFLOW} is not set."
    if not targets.prefect:
        yield f"Prefect stays on SQLite: {PREFECT} is not set."
        return
    yield (
        f"Prefect begins anew in {public_place(targets.prefect)}: `assay up` makes its"
        " deployments there, and past flow runs stay in the home."
    )
    paused = paused_deployments(home)
    if paused:
        yield f"Paused in Prefect until now: {', '.join(paused)}. Pause them there again."


@contextmanager
def _unused(home: Path) -> Iterator[None]:
    """Have a home that nothing uses; `OperationError` where something does."""
    if not home.is_dir():
        raise OperationError(
            f"There is no home {home}, so there is nothing to move."
            " `assay up` makes it, with its records in PostgreSQL."
        )
    # `assay up` first: its name says more than that of a lock which one of its services holds.
    with (
        exclusive(up_lock(home), wait=0, busy=lambda: _in_use("`assay up`", home)),
        without_servers(home) as no_server_runs,
        alone(home, _PATIENCE),
    ):
        if not no_server_runs:
            raise _in_use("`assay ui`", home)
        if is_held(endpoint_lock(home)):
            raise _in_use("`assay serve`", home)
        yield


def _in_use(command: str, home: Path) -> OperationError:
    return OperationError(
        f"{command} runs in {home}. Nothing was moved: end it (`assay down`), and run this again."
    )
