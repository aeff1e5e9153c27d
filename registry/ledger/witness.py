"""The witness: a place that another account owns, told of each head, and asked for the furthest.

`ASSAY_WITNESS` names it: a file on another file system to which this account may only append, or
an HTTP address that takes a sealed record by POST and gives back the furthest by GET. One that does
not answer is a warning and stops nothing.
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

SECONDS = 3.0
LARGEST = 1_000_000
_T = TypeVar("_T")


class _Place(Protocol):
    name: str

    def tell(self, sealed: SealedRecord) -> None: ...

    def records(self) -> Iterator[bytes]: ...


class Witness:
    """A witness, with a limit on how long it may take. Of one that hangs no second thing is asked."""

    def __init__(self, place: _Place) -> None:
        self._place = place
        self._asking: threading.Thread | None = None

    @property
    def name(self) -> str:
        """Its address without any login."""
        return f"the witness {self._place.name}"

    def tell(self, sealed: SealedRecord) -> None:
        """Tell it of a head; `LedgerError` where it does not take it in time."""
        self._in_time(lambda: self._place.tell(sealed))

    def furthest(self, trusted: frozenset[str]) -> SealedRecord | None:
        """The furthest record that one of those keys sealed; what others put there does not count."""
        found = [each for each in self._in_time(self._records) if each.is_by(trusted)]
        return max(found, key=lambda each: each.record.head.generation, default=None)

    def _records(self) -> list[SealedRecord]:
        found = []
        for text in self._place.records():
            try:
                found.append(SealedRecord.model_validate_json(text))
            except ValidationError:
                continue  # no record: anybody may have written into that place
        return found

    def _in_time(self, call: Callable[[], _T]) -> _T:
        """In a thread: a file system or a server that hangs must hold nobody up."""
        if self._asking is not None and self._asking.is_alive():
            raise self._silent("it has not answered since it was last asked")
        outcome: list[_T] = []
        fault: list[Exception] = []

        def run() -> None:
            try:
                outcome.append(call())
            except Exception as error:  # noqa: BLE001 - whatever it is, the witness did not answer
                fault.append(error)

        self._asking = threading.Thread(target=run, name="witness", daemon=True)
        self._asking.start()
        self._asking.join(SECONDS)
        if outcome:
            return outcome[0]
        # Of an unknown error only the kind is said: its text may hold the address with a login.
        fact = (
            str(fault[0])
            if fault and isinstance(fault[0], LedgerError)
            else type(fault[0]).__name__
            if fault
            else None
        )
        raise self._silent(fact or f"nothing within {SECONDS:g} s")

    def _silent(self, fact: str) -> LedgerError:
        return LedgerError(
            f"{self.name[0].upper()}{self.name[1:]} does not answer ({fact}). Look at it, or correct ASSAY_WITNESS."
        )


def witness() -> Witness | None:
    """The one that ASSAY_WITNESS names; None where it names none."""
    address = Settings().witness
    if not address:
        return None
    scheme, mark, _ = address.partition("://")
    if mark and scheme.lower() in {"http", "https"}:
        return Witness(_HttpWitness(address))
    path = Path(address.removeprefix("file://"))
    if (mark and scheme != "file") or not path.is_absolute():
        raise LedgerError(
            "ASSAY_WITNESS is neither an absolute path nor an http(s) address. Correct it."
        )
    return Witness(_FileWitness(path))


class _FileWitness:
    """A line for each head, at the end of a file."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path

    def tell(self, sealed: SealedRecord) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, f"{sealed.model_dump_json()}\n".encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def records(self) -> Iterator[bytes]:
        if not self._path.exists():
            return
        with self._path.open("rb") as lines:
            yield from lines


class _HttpWitness:
    """An address; a login may be part of it, and is said nowhere."""

    def __init__(self, address: str) -> None:
        try:
            # Without the login: clients log the addresses that they ask.
            self._address, self._login = split_login(address)
        except ValueError as error:
            raise LedgerError(
                f"ASSAY_WITNESS cannot be understood: {error}. In a login @ is written %40, / is written %2F."
            ) from None
        self.name = shown(self._address)

    def tell(self, sealed: SealedRecord) -> None:
        import httpx

        content = sealed.model_dump_json()
        kind = {"content-type": "application/json"}
        reply = httpx.post(
            self._address,
            content=content,
            headers=kind,
            auth=self._login,
            timeout=SECONDS,
        )
        if not reply.is_success:
            raise LedgerError(f"status {reply.status_code}")

    def records(self) -> Iterator[bytes]:
        import httpx

        with httpx.stream(
            "GET", self._address, auth=self._login, timeout=SECONDS
        ) as reply:
            if reply.status_code in {204, 404}:
                return
            if not reply.is_success:
                raise LedgerError(f"status {reply.status_code}")
            content = b""
            for piece in reply.iter_bytes():
                content += piece
                if len(content) > LARGEST:
                    raise LedgerError("more than a record")
        yield from content.splitlines()
