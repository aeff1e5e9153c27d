"""Which engines run, written into the home, so that the next endpoint finds those of a killed one.

A record is signed with the endpoint's key, and its port must be one on which that very process
listens: a person who can write a file in this home does not thereby choose who answers.
"""

import json
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import psutil

from core.errors import DamagedFile, LedgerError
from core.files import digest_of_json
from core.log import say
from core.private_file import write_private
from core.value import Value
from pipelines.values.serving_spec import ServingSpec
from registry.ledger.entries import Release
from registry.ledger.keys import Seal, create_endpoint_key, load_endpoint_key, seal
from serving.endpoint.memory import FOLDER
from serving.endpoint.upstream import EngineAddress

# Fields of /proc/PID/stat after the command's name.
_STATE = 0
_START_TIME = 19


class EngineContents(Value):
    """What an engine has loaded: two engines with equal contents answer alike."""

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
    """A running engine: which process it is, how it is called, what it has loaded."""

    pid: int
    # The kernel's own count at its start, which no setting of the clock changes.
    started: str
    port: int
    token: str
    loaded: EngineContents
    # What computes its answers.
    engine: str = ""
    # Whether every scored answer that was to come back from it did.
    is_probed: bool = False
    # Whether releases of other models may be in the same process, each with a record of its own.
    is_shared: bool = False
    # The home whose endpoint started it: a copy of a home has copies of these records, and no
    # engines.
    home: str = ""
    seal: Seal | None = None

    @property
    def digest(self) -> str:
        """What the endpoint's key signs."""
        fields = self.model_dump(mode="json", exclude={"seal"})
        return _digest_of(fields)

    @property
    def address(self) -> EngineAddress:
        """How it is called."""
        prefix = release_path(self.loaded.package_sha256) if self.is_shared else ""
        return EngineAddress(self.port, self.token, prefix)

    @property
    def name(self) -> str:
        """Of its file."""
        package = self.loaded.package_sha256 if self.is_shared else ""
        return record_name(self.pid, package)

    def is_running(self) -> bool:
        """Whether that very process runs, and is an engine.

        A number that was given out again is another process.
        """
        if self.started == "":
            return False
        is_same_process = started_at(self.pid) == self.started
        return is_same_process and _is_engine(self.pid)

    def is_of(self, home: Path) -> bool:
        """Whether an endpoint of this home wrote it as it is."""
        return self._is_sealed(home, self.digest)

    def is_of_another_version(self, home: Path, path: Path) -> bool:
        """Whether an endpoint of this home wrote the file `path`, with other fields than these."""
        fields = json.loads(path.read_bytes())
        fields.pop("seal", None)
        return self._is_sealed(home, _digest_of(fields))

    def _is_sealed(self, home: Path, digest: str) -> bool:
        try:
            key = load_endpoint_key(home).public_key()
        except LedgerError:
            return False
        public = key.public_bytes_raw().hex()
        if self.seal is None or self.seal.public != public:
            return False
        return self.seal.is_of(digest)


def release_path(package_sha256: str) -> str:
    """Where a process of several releases answers for that one."""
    return f"/releases/{package_sha256}"


def record_name(pid: int, package_sha256: str = "") -> str:
    """Of the file of a record; the package is named where a process may have several."""
    release = f"-{package_sha256}" if package_sha256 else ""
    return f"{pid}{release}.json"


def create_token() -> str:
    """A token that nobody knows yet."""
    return secrets.token_urlsafe(32)


def engines_folder(home: Path) -> Path:
    """The folder of the records, one file each, mode 0600."""
    return home / FOLDER / "engines"


def write_record(home: Path, record: EngineRecord) -> bool:
    """Sign and write it, whole or not at all; whether it is written.

    On a full disk an engine of one release serves all the same; the next endpoint starts another
    one.
    """
    try:
        key = create_endpoint_key(home)
        own = record.model_copy(update={"home": str(home.resolve())})
        sealed = own.model_copy(update={"seal": seal(own.digest, key)})
        write_private(engines_folder(home) / record.name, sealed.model_dump_json())
    except (OSError, LedgerError) as error:
        fact = error.strerror if isinstance(error, OSError) else error
        say(
            f"Engine {record.pid} cannot be written down ({fact}): "
            "an endpoint that is killed will load it again."
        )
        return False
    return True


def read_records(home: Path) -> tuple[EngineRecord, ...]:
    """The engines of this home that run.

    Records that are damaged, that the endpoint did not write or another version of it wrote, or
    whose process has ended are deleted.
    """
    records: list[EngineRecord] = []
    stale_files: list[Path] = []
    for path in sorted(engines_folder(home).glob("*.json")):
        record = _read_record(home, path)
        if record is None:
            stale_files.append(path)
        else:
            records.append(record)
    for path in stale_files:
        with suppress(OSError):
            path.unlink()
    return tuple(records)


def forget_record(home: Path, name: str) -> None:
    """Delete the record of an engine that has ended."""
    with suppress(OSError):
        (engines_folder(home) / name).unlink(missing_ok=True)


def started_at(pid: int) -> str:
    """The kernel's count at a process's start, in clock ticks since the machine's own start.

    Empty where there is no such process, or where it has ended and its parent has not noticed.
    """
    path = Path(f"/proc/{pid}/stat")
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
        # The second field is the command's name, which may hold spaces and brackets itself.
        fields = text.rpartition(")")[2].split()
    except OSError:
        return ""
    if fields[_STATE] in ("Z", "X"):
        return ""
    return fields[_START_TIME]


def _digest_of(fields: dict[str, Any]) -> str:
    return digest_of_json(
        {
            "assay": "engine record",
            "value": fields,
        }
    )


def _is_engine(pid: int) -> bool:
    with suppress(psutil.Error):
        words = set(psutil.Process(pid).cmdline())
        return {"serving", "--owned"} <= words
    return False


def _listens_on(pid: int, port: int) -> bool:
    """Whether that process answers on that port."""
    with suppress(psutil.Error):
        for connection in psutil.Process(pid).net_connections("tcp"):
            is_listening = connection.status == psutil.CONN_LISTEN
            if is_listening and connection.laddr.port == port:
                return True
    return False


def _read_record(home: Path, path: Path) -> EngineRecord | None:
    # ValueError: what was JSON a moment ago is none any more.
    with suppress(DamagedFile, OSError, ValueError):
        record = EngineRecord.read(path)
        if path.name != record.name or not record.is_running():
            return None
        is_of_this_home = record.home == str(home.resolve())
        is_as_written = record.is_of(home)
        if is_as_written and _listens_on(record.pid, record.port):
            return record if is_of_this_home else None
        # What ends while it is looked at is not known by its words any more.
        if not record.is_running():
            return None
        # Nobody has changed anything: it was told to end, and completes its last answers.
        if is_as_written:
            say(f"Engine process {record.pid} listens no more, and is left to end.")
            return None
        is_older = record.is_of_another_version(home, path)
        if is_older and is_of_this_home:
            say(
                f"Engine process {record.pid} was left running by another version of Assay: "
                "it ends by itself, and another one is started."
            )
        if not is_older:
            say(
                f"ALARM: {path} is not what the endpoint wrote, and is not believed. "
                "Find out who changed it; another engine is started."
            )
    return None
