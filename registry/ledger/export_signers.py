"""Who signed in an export, found before it is followed.

Anybody can make a ledger of any length, and to follow one takes time and memory by the square of
it. Here entries are read one by one, and none is kept.
"""

from collections import deque
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from registry.ledger.audit import iterate_export
from registry.ledger.chain import is_hashed
from registry.ledger.entries import Entry, KeyAdded, Opened, PublicKey
from registry.ledger.keys import is_signed

_MOST_SHOWN = 3


class Signers(NamedTuple):
    """What an export says of its keys; the chain of its entries was not verified."""

    is_listed: bool
    """Whether a listed key truly signed an entry in it."""
    ledger_id: str
    controllers: tuple[str, ...]
    """Ids of its latest keys of that role, for people to compare."""


def find_signers(export: Path, listed: Collection[str]) -> Signers:
    """Read an export up to the first entry that a listed key signed.

    `BrokenLedger` or `LedgerError` where it is no export.
    """
    ledger_id = ""
    known: dict[str, PublicKey] = {}
    latest: deque[str] = deque(maxlen=_MOST_SHOWN)
    for entry in iterate_export(export):
        if isinstance(entry.body, Opened):
            ledger_id = entry.body.ledger_id
        for key in _keys_in(entry):
            # Of the others none is kept: there may be any number of them.
            if key.key_id in listed:
                known[key.key_id] = key
            if key.role == "controller":
                latest.append(key.key_id)
        if _is_signed_by(entry, known):
            return Signers(True, ledger_id, tuple(latest))
    return Signers(False, ledger_id, tuple(latest))


def _keys_in(entry: Entry) -> Iterator[PublicKey]:
    if isinstance(entry.body, Opened | KeyAdded):
        yield entry.body.key


def _is_signed_by(entry: Entry, known: dict[str, PublicKey]) -> bool:
    # An id is that of the key's own bytes, so that nobody can name another's.
    key = known.get(entry.key_id)
    if key is None:
        return False
    return is_hashed(entry) and is_signed(entry, key)
