"""What the endpoint remembers of the ledger, on its own disk: how things stood when it last saw them verified.

It is signed with a key of the endpoint's own, which writes nothing to the ledger.
"""

from dataclasses import dataclass
from pathlib import Path

from core.errors import DamagedFile
from registry.ledger.heads import (
    Memory,
    memory_file,
    read_memory,
    record_file,
    write_memory,
)
from registry.ledger.keys import endpoint_key_file
from registry.ledger.state import LedgerState
from serving.log import say

FOLDER = "endpoint"

__all__ = ["FOLDER", "Recalled", "memory_file", "recall", "remember"]


@dataclass(frozen=True)
class Recalled:
    """What was remembered, whether there was a head record by then, and whether it is signed."""

    ledger_state: LedgerState | None
    has_seen_record: bool = False
    is_signed: bool = False


def recall(home: Path) -> Recalled:
    """What was remembered, if anything was.

    `DamagedFile`, once, where it is not what the endpoint signed (it is put aside then), or is gone.
    A memory of before there were signatures is taken as it is, and signed when it is next written.
    """
    try:
        memory = read_memory(home)
    except DamagedFile as error:
        aside = memory_file(home).with_suffix(".damaged")
        memory_file(home).replace(aside)
        raise DamagedFile(
            f"{error} It lies in {aside} now and is not believed."
        ) from error
    if memory is None:
        if endpoint_key_file(home).exists():
            raise DamagedFile(
                f"The endpoint's memory {memory_file(home)} is gone, and the endpoint has run here before."
            )
        return Recalled(None)
    if memory.seal is None:
        say(
            f"{memory_file(home)} has no signature, as an earlier version of Assay wrote it. It is taken once, and signed from now on."
        )
    return Recalled(memory.standing, memory.has_seen_record, memory.seal is not None)


def remember(home: Path, recalled: Recalled) -> bool:
    """Keep it, whole or not at all; gives whether there has been a head record by now."""
    has_seen = recalled.has_seen_record or record_file(home).exists()
    if recalled.ledger_state is not None:
        write_memory(
            home, Memory(standing=recalled.ledger_state, has_seen_record=has_seen)
        )
    return has_seen
