"""What `assay up` shows: a line a service while they start, then links, then only changes."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table

from core.system_record import ServiceRecord
from flows.schedule.prefect_login import login_file
from registry.mlflow.accounts import passwords_file

# One column wide each, so that the table keeps its shape.
_MARKS = {
    "waiting": "·",
    "starting": "…",
    "ready": "✓",
    "done": "✓",
    "restarting": "!",
    "given up": "✗",
}
_MLFLOW = "mlflow"
_GIVEN_UP = "; that was the fifth time in a row, the rest continues without it"


class StartDisplay:
    """A table on a terminal, until everything is ready; elsewhere a line for each change."""

    def __init__(self, home: Path) -> None:
        """Nothing is shown yet."""
        self._home = home
        # Long lines are left to the terminal, and numbers get no colours.
        self._console = Console(file=sys.stdout, highlight=False, soft_wrap=True)
        self._live: Live | None = None
        if self._console.is_terminal:
            self._live = Live(console=self._console, transient=True)
        self._began = time.monotonic()
        self._is_ready = False
        self._shown: dict[str, tuple[str, str]] = {}
        self._actions: list[Callable[[], object]] = []

    def when_ready(self, action: Callable[[], object]) -> None:
        """Have an action taken once everything is ready."""
        self._actions.append(action)

    def warn(self, sentence: str | None) -> None:
        """Show a sentence that a person should read; None shows nothing."""
        if sentence:
            self._print(f"! {sentence}")

    def show(self, records: Sequence[ServiceRecord]) -> None:
        """Show the services as they are now."""
        if self._live is not None and not self._is_ready:
            with _ignore_lost_output():
                # Starting it again does nothing.
                self._live.start()
                self._live.update(_table(records), refresh=True)
        else:
            self._print_changes(records)
        # Announced once: a service that is restarted later is a change like any other.
        if not self._is_ready and all(_is_well(record) for record in records):
            self._announce_ready(records)

    def stopping(self) -> None:
        """Show that the services are being ended."""
        self._end_live()
        self._print("Stopping …")

    def _print_changes(self, records: Sequence[ServiceRecord]) -> None:
        for record in records:
            current = (record.state, record.detail)
            has_changed = self._shown.get(record.name) != current
            if has_changed and record.state != "waiting":
                self._print(_line(record))
            self._shown[record.name] = current

    def _announce_ready(self, records: Sequence[ServiceRecord]) -> None:
        self._is_ready = True
        self._end_live()
        self._shown = {record.name: (record.state, record.detail) for record in records}
        self._print(f"Ready after {time.monotonic() - self._began:.0f} s:")
        for record in records:
            if record.link is not None:
                self._print(f"  {record.name:<9} {record.link}")
        # A team's MLflow is no service of ours, and has users of its own.
        if any(record.name == _MLFLOW for record in records):
            self._print(
                "Users admin, manager and scientist of MLflow: "
                f"passwords in {passwords_file(self._home)}."
            )
        self._print(f"Logs: {self._home / 'logs'}.")
        self._print(f"Prefect's pages ask for the line in {login_file(self._home)}.")
        self._print("Ctrl-C, or `assay down`, ends everything.")
        # Last, so that a browser window does not hide the lines above.
        for action in self._actions:
            action()

    def _end_live(self) -> None:
        if self._live is not None:
            with _ignore_lost_output():
                self._live.stop()
            # From here on changes are printed as lines.
            self._live = None

    def _print(self, line: str) -> None:
        with _ignore_lost_output():
            self._console.print(line, markup=False)
            # Whoever reads the output through a pipe waits for these lines.
            self._console.file.flush()


@contextmanager
def _ignore_lost_output() -> Iterator[None]:
    """Continue where the output goes to a full disk, a closed pipe or a closed terminal.

    Rich answers a closed pipe with SystemExit.
    """
    with suppress(OSError, ValueError, SystemExit):
        yield


def _is_well(record: ServiceRecord) -> bool:
    return record.state in ("ready", "done")


def _line(record: ServiceRecord) -> str:
    mark = "!" if record.is_silent else _MARKS[record.state]
    needs_detail = record.is_silent or record.state not in ("ready", "done", "starting")
    detail = f": {record.detail}" if needs_detail else ""
    consequence = {
        "restarting": "; it is started again",
        "given up": _GIVEN_UP,
    }.get(record.state, "")
    return f"{mark} {record.name} {record.state}{detail}{consequence}"


def _table(records: Sequence[ServiceRecord]) -> Table:
    table = Table.grid(padding=(0, 2))
    for record in records:
        mark = _MARKS[record.state]
        link = record.link or ""
        table.add_row(mark, record.name, record.state, link)
    return table
