"""Which engines run, written down in the home, so that the next endpoint finds those of one that was killed.

A record is signed with the endpoint's key, and its port must be one on which that very process listens: whoever
can write a file in this home does not thereby choose who answers.
"""

import secrets
from contextlib import suppress
from pathlib import Path
from typing import Self

import psutil

from core.errors import DamagedFile, LedgerError
from core.files import digest_of_json
from core.private_file import write_private
from core.value import Value
from pipelines.values.serving_spec import ServingSpec
from registry.ledger.entries import Release
from registry.ledger.keys import Seal, create_endpoint_key, load_endpoint_key, seal
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
        return cls(
            model=release.model,
            package_sha256=release.package_sha256,
            spec=release.spec,
            with_adapter=with_adapter,
        )


class EngineRecord(Value):
    """A running engine: which process it is, how it is asked, what it has loaded."""

    pid: int
    started: str
    """The kernel's own count at its start, which no setting of the clock changes."""
    port: int
    token: str
    loaded: Loaded
    home: str = ""
    """The home whose endpoint started it: a copy of a home has copies of these records, and no engines."""
    seal: Seal | None = None

    @property
    def digest(self) -> str:
        """What the endpoint's key signs."""
        return digest_of_json(
            {
                "assay": "engine record",
                "value": self.model_dump(mode="json", exclude={"seal"}),
            }
        )

    @property
    def address(self) -> Address:
        """How it is asked."""
        return Address(self.port, self.token)

    def is_running(self) -> bool:
        """Whether that very process runs, and is an engine: a number that was given out again is another process."""
        return (
            self.started != ""
            and started_at(self.pid) == self.started
            and _is_engine(self.pid)
        )

    def is_of(self, home: Path) -> bool:
        """Whether an endpoint of this home wrote it as it is."""
        try:
            raw = load_endpoint_key(home).public_key().public_bytes_raw()
        except LedgerError:
            return False
        return (
            self.seal is not None
            and self.seal.public == raw.hex()
            and self.seal.is_of(self.digest)
        )


def new_token() -> str:
    """One that nobody knows yet."""
    return secrets.token_urlsafe(32)


def engines_folder(home: Path) -> Path:
    """Where the records lie, one file each, mode 0600."""
    return home / FOLDER / "engines"


def write_record(home: Path, record: EngineRecord) -> None:
    """Sign and write it whole. On a full disk the engine serves all the same; the next endpoint starts another one."""
    try:
        own = record.model_copy(update={"home": str(home.resolve())})
        sealed = own.model_copy(
            update={"seal": seal(own.digest, create_endpoint_key(home))}
        )
        write_private(_file(home, record.pid), sealed.model_dump_json())
    except (OSError, LedgerError) as error:
        fact = error.strerror if isinstance(error, OSError) else error
        say(
            f"Engine {record.pid} cannot be written down ({fact}): an endpoint that is killed will load it again."
        )


def read_records(home: Path) -> tuple[EngineRecord, ...]:
    """Engines that run. What is damaged, or not the endpoint's own, or is no process any more, is deleted."""
    found = [
        (path, _read(home, path))
        for path in sorted(engines_folder(home).glob("*.json"))
    ]
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
        fields = (
            Path(f"/proc/{pid}/stat")
            .read_text(encoding="utf-8", errors="replace")
            .rpartition(")")[2]
            .split()
        )
    except OSError:
        return ""
    return "" if fields[0] in ("Z", "X") else fields[19]


def _is_engine(pid: int) -> bool:
    with suppress(psutil.Error):
        return {"serving", "--owned"} <= set(psutil.Process(pid).cmdline())
    return False


def _listens(pid: int, port: int) -> bool:
    """Whether it is that process that answers on that port."""
    with suppress(psutil.Error):
        return any(
            each.status == psutil.CONN_LISTEN and each.laddr.port == port
            for each in psutil.Process(pid).net_connections("tcp")
        )
    return False


def _read(home: Path, path: Path) -> EngineRecord | None:
    with suppress(DamagedFile, OSError):
        record = EngineRecord.read(path)
        if path != path.with_name(f"{record.pid}.json") or not record.is_running():
            return None
        if record.is_of(home) and _listens(record.pid, record.port):
            return record if record.home == str(home.resolve()) else None
        say(
            f"ALARM: {path} is not what the endpoint wrote, and is not believed. Find out who changed it; another engine is started."
        )
    return None


def _file(home: Path, pid: int) -> Path:
    return engines_folder(home) / f"{pid}.json"
