"""Which engines run, written down in the home, so that the next endpoint finds those of one that was killed."""

import secrets
from contextlib import suppress
from pathlib import Path
from typing import Self

import psutil

from pipelines.errors import DamagedFile
from pipelines.serving_spec import ServingSpec
from pipelines.value import Value
from registry.entries import Release
from registry.private_file import write_private
from serving.endpoint.memory import FOLDER
from serving.endpoint.upstream import Address
from serving.log import say


class Loaded(Value):
    """What an engine has loaded: two engines with the same are one as good as the other."""

    model: str
    package_sha256: str
    spec: ServingSpec
    with_adapter: bool

    @classmethod
    def of(cls, release: Release, *, with_adapter: bool) -> Self:
        """What the engine of that release has loaded."""
        return cls(model=release.model, package_sha256=release.package_sha256, spec=release.spec, with_adapter=with_adapter)


class EngineRecord(Value):
    """A running engine: which process it is, how it is asked, what it has loaded."""

    pid: int
    started: str
    """The kernel's own count at its start, which no setting of the clock changes."""
    port: int
    token: str
    loaded: Loaded

    @property
    def address(self) -> Address:
        """How it is asked."""
        return Address(self.port, self.token)

    def is_running(self) -> bool:
        """Whether that very process runs, and is an engine: a number that was given out again is another process."""
        return self.started != "" and started_at(self.pid) == self.started and _is_engine(self.pid)


def new_token() -> str:
    """One that nobody knows yet."""
    return secrets.token_urlsafe(32)


def engines_folder(home: Path) -> Path:
    """Where the records lie, one file each, mode 0600."""
    return home / FOLDER / "engines"


def write_record(home: Path, record: EngineRecord) -> None:
    """Write it whole. On a full disk the engine serves all the same; the next endpoint starts another one."""
    try:
        write_private(_file(home, record.pid), record.model_dump_json())
    except OSError as error:
        say(f"Engine {record.pid} cannot be written down ({error.strerror}): an endpoint that is killed will load it again.")


def read_records(home: Path) -> tuple[EngineRecord, ...]:
    """Engines that run. What is damaged, or is no process any more, is deleted."""
    found = [(path, _read(path)) for path in sorted(engines_folder(home).glob("*.json"))]
    for path, record in found:
        if record is None:
            with suppress(OSError):
                path.unlink()
    return tuple(record for _, record in found if record is not None)


def forget(home: Path, pid: int) -> None:
    """The engine has ended."""
    with suppress(OSError):
        _file(home, pid).unlink(missing_ok=True)


def started_at(pid: int) -> str:
    """The kernel's count at a process's start; empty where there is no such process, or only its remains."""
    try:
        # The second field is the command's name, which may hold spaces and brackets itself.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in ("Z", "X") else fields[19]


def _is_engine(pid: int) -> bool:
    with suppress(psutil.Error):
        return {"serving", "--owned"} <= set(psutil.Process(pid).cmdline())
    return False


def _read(path: Path) -> EngineRecord | None:
    with suppress(DamagedFile, OSError):
        record = EngineRecord.read(path)
        return record if path == path.with_name(f"{record.pid}.json") and record.is_running() else None
    return None


def _file(home: Path, pid: int) -> Path:
    return engines_folder(home) / f"{pid}.json"
