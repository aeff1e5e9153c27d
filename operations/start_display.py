"""What `assay up` shows: a line a service while they start, then links, then only what changes."""

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

_MARKS = {
    "waiting": "·",
    "starting": "…",
    "ready": "✓",
    "done": "✓",
    "restarting": "!",
    "given up": "✗",
}


class Progress:
    """On a terminal a table that lives until everything is ready; elsewhere a line for each change."""

    def __init__(self, home: Path) -> None:
        """Nothing is shown yet."""
        self._home = home
        self._console = Console(file=sys.stdout, highlight=False, soft_wrap=True)
        self._live = (
            Live(console=self._console, transient=True)
            if self._console.is_terminal
            else None
        )
        self._began = time.monotonic()
        self._is_ready = False
        self._shown: dict[str, tuple[str, str]] = {}
        self._then: list[Callable[[], object]] = []

    def when_ready(self, act: Callable[[], object]) -> None:
        """Have something done once everything is ready."""
        self._then.append(act)

    def warn(self, sentence: str | None) -> None:
        """What a person should know although it stops nothing."""
        if sentence:
            self._say(f"! {sentence}")

    def show(self, records: Sequence[ServiceRecord]) -> None:
        """Show how they stand now."""
        if self._live is not None and not self._is_ready:
            with _heard_or_not():
                self._live.start()
                self._live.update(_table(records), refresh=True)
        else:
            self._tell_changes(records)
        if not self._is_ready and all(
            each.state in ("ready", "done") for each in records
        ):
            self._ready(records)

    def stopping(self) -> None:
        """It ends now."""
        self._end_live()
        self._say("Stopping …")

    def _tell_changes(self, records: Sequence[ServiceRecord]) -> None:
        for each in records:
            now = (each.state, each.detail)
            if self._shown.get(each.name) != now and each.state != "waiting":
                self._say(_line(each))
            self._shown[each.name] = now

    def _ready(self, records: Sequence[ServiceRecord]) -> None:
        self._is_ready = True
        self._end_live()
        self._shown = {each.name: (each.state, each.detail) for each in records}
        self._say(f"Ready after {time.monotonic() - self._began:.0f} s:")
        for each in records:
            if each.link is not None:
                self._say(f"  {each.name:<9} {each.link}")
        self._say(
            f"Users admin, manager and scientist of MLflow: passwords in {passwords_file(self._home)}. Logs: {self._home / 'logs'}."
        )
        self._say(f"Prefect's pages ask for the line in {login_file(self._home)}.")
        self._say("Ctrl-C, or `assay down`, ends everything.")
        for act in self._then:
            act()

    def _end_live(self) -> None:
        if self._live is not None:
            with _heard_or_not():
                self._live.stop()
            self._live = None

    def _say(self, line: str) -> None:
        with _heard_or_not():
            self._console.print(line, markup=False)
            self._console.file.flush()


@contextmanager
def _heard_or_not() -> Iterator[None]:
    """A full disk, a closed pipe or a terminal that is gone behind the output ends nothing. Rich answers a closed pipe with SystemExit."""
    with suppress(OSError, ValueError, SystemExit):
        yield


def _line(record: ServiceRecord) -> str:
    more = (
        ""
        if record.state in ("ready", "done", "starting") and not record.is_silent
        else f": {record.detail}"
    )
    again = "; it is started again" if record.state == "restarting" else ""
    if record.state == "given up":
        again = "; that was the fifth time in a row, the rest goes on without it"
    return f"{'!' if record.is_silent else _MARKS[record.state]} {record.name} {record.state}{more}{again}"


def _table(records: Sequence[ServiceRecord]) -> Table:
    table = Table.grid(padding=(0, 2))
    for each in records:
        table.add_row(_MARKS[each.state], each.name, each.state, each.link or "")
    return table
