"""The witness: a place that another account owns, which keeps each head and gives the furthest.

`ASSAY_WITNESS` names it: a file on another file system to which this account may only append, or
an HTTP address that takes a sealed record by POST and gives back the furthest by GET. A witness
that does not answer is a warning and stops nothing.
"""

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol, TypeVar

from pydantic import ValidationError

from core.address import shown, split_login
from core.errors import LedgerError
from core.settings import Settings
from registry.ledger.heads import SealedRecord

# Short, since the controller asks between its other duties.
SECONDS = 3.0
# Bytes; a head record has a few thousand.
LARGEST = 1_000_000
_T = TypeVar("_T")


class _Place(Protocol):
    name: str

    def tell(self, sealed: SealedRecord) -> None: ...

    def records(self) -> Iterator[bytes]: ...


class Witness:
    """A witness that is given limited time; one that hangs is not asked a second time."""

    def __init__(self, place: _Place) -> None:
        self._place = place
        self._asking: threading.Thread | None = None

    @property
    def name(self) -> str:
        """Its address without any login."""
        return f"the witness {self._place.name}"

    def tell(self, sealed: SealedRecord) -> None:
        """Have it keep a head; `LedgerError` where it does not take it in time."""

        def send() -> None:
            self._place.tell(sealed)

        self._call_in_time(send)

    def read_furthest(self, trusted: frozenset[str]) -> SealedRecord | None:
        """The furthest record that one of those keys sealed; None where there is none.

        What others put there does not count. `LedgerError` where it does not answer in time.
        """
        records = self._call_in_time(self._read_records)
        furthest: SealedRecord | None = None
        for sealed in records:
            if not sealed.is_sealed_by(trusted):
                continue
            if furthest is None or sealed.generation > furthest.generation:
                furthest = sealed
        return furthest

    def _read_records(self) -> list[SealedRecord]:
        records = []
        for text in self._place.records():
            try:
                record = SealedRecord.model_validate_json(text)
            except ValidationError:
                continue  # no record: anybody may have written into that place
            records.append(record)
        return records

    def _call_in_time(self, call: Callable[[], _T]) -> _T:
        """Call in a thread: a file system or a server that hangs must not block anybody."""
        # Otherwise every call would leave one more hanging thread behind.
        if self._asking is not None and self._asking.is_alive():
            raise self._silence("it has not answered since it was last asked")
        outcomes: list[_T] = []
        faults: list[Exception] = []

        def run() -> None:
            try:
                outcomes.append(call())
            except Exception as error:  # noqa: BLE001 - whatever it is, the witness did not answer
                faults.append(error)

        # A daemon: the process may end while the witness still hangs.
        self._asking = threading.Thread(target=run, name="witness", daemon=True)
        self._asking.start()
        self._asking.join(SECONDS)
        if outcomes:
            return outcomes[0]
        if faults:
            raise self._silence(_describe_fault(faults[0]))
        raise self._silence(f"nothing within {SECONDS:g} s")

    def _silence(self, fact: str) -> LedgerError:
        name = self.name[0].upper() + self.name[1:]
        return LedgerError(
            f"{name} does not answer ({fact}). Look at it, or correct ASSAY_WITNESS."
        )


def _describe_fault(error: Exception) -> str:
    # Of an unknown error only the type is reported: its text may hold the address with a login.
    if isinstance(error, LedgerError):
        return str(error)
    return type(error).__name__


def witness() -> Witness | None:
    """The witness that ASSAY_WITNESS names; None where it names none.

    `LedgerError` where it is neither a path nor an address.
    """
    address = Settings().witness
    if not address:
        return None
    scheme, mark, _ = address.partition("://")
    if mark and scheme.lower() in {"http", "https"}:
        return Witness(_HttpWitness(address))
    path = Path(address.removeprefix("file://"))
    is_of_another_kind = mark and scheme != "file"
    # A relative path would lead elsewhere from each folder, to a witness that saw nothing.
    if is_of_another_kind or not path.is_absolute():
        raise LedgerError(
            "ASSAY_WITNESS is neither an absolute path nor an http(s) address. Correct it."
        )
    return Witness(_FileWitness(path))


class _FileWitness:
    """A file with a line for each head."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path

    def tell(self, sealed: SealedRecord) -> None:
        line = f"{sealed.model_dump_json()}\n"
        # Appended in one write, so that two writers do not mix their lines.
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        descriptor = os.open(self._path, flags, 0o600)
        try:
            os.write(descriptor, line.encode())
            # What the witness has kept must survive a power failure, or it proves nothing.
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def records(self) -> Iterator[bytes]:
        if not self._path.exists():
            return
        with self._path.open("rb") as lines:
            # Line by line: the file grows with every head, and is never cut.
            yield from lines


class _HttpWitness:
    """An address; a login may be part of it, and is shown nowhere."""

    def __init__(self, address: str) -> None:
        try:
            # Without the login: clients log the addresses that they call.
            self._address, self._login = split_login(address)
        except ValueError as error:
            raise LedgerError(
                f"ASSAY_WITNESS cannot be understood: {error}."
                " In a login @ is written %40, / is written %2F."
            ) from None
        self.name = shown(self._address)

    def tell(self, sealed: SealedRecord) -> None:
        import httpx

        reply = httpx.post(
            self._address,
            content=sealed.model_dump_json(),
            headers={"content-type": "application/json"},
            auth=self._login,
            timeout=SECONDS,
        )
        if not reply.is_success:
            raise LedgerError(f"status {reply.status_code}")

    def records(self) -> Iterator[bytes]:
        import httpx

        request = httpx.stream(
            "GET",
            self._address,
            auth=self._login,
            timeout=SECONDS,
        )
        with request as reply:
            # It has kept nothing yet.
            if reply.status_code in {204, 404}:
                return
            if not reply.is_success:
                raise LedgerError(f"status {reply.status_code}")
            content = b""
            for piece in reply.iter_bytes():
                content += piece
                # Whatever answers there must not fill the memory.
                if len(content) > LARGEST:
                    raise LedgerError("more than a record")
        yield from content.splitlines()
