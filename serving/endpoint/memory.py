"""What the endpoint remembers of the ledger, on its own disk: the state it last saw verified.

It is signed with a key of the endpoint's own, which writes nothing to the ledger.
"""

from dataclasses import dataclass
from pathlib import Path

from core.errors import DamagedFile
from core.log import say
from registry.ledger.heads import (
    Memory,
    memory_file,
    read_memory,
    record_file,
    write_memory,
)
from registry.ledger.keys import endpoint_key_file
from registry.ledger.state import LedgerState

FOLDER = "endpoint"

__all__ = ["FOLDER", "RecalledState", "memory_file", "recall", "remember"]


@dataclass(frozen=True)
class RecalledState:
    """What was remembered, whether there was a head record by then, and whether it is signed."""

    ledger_state: LedgerState | None
    has_seen_record: bool = False
    is_signed: bool = False


def recall(home: Path) -> RecalledState:
    """What was remembered, if anything was.

    `DamagedFile`, once, where it is missing or is not what the endpoint signed; in that case it is
    moved aside. A memory from before there were signatures is taken as it is, and signed when it
    is next written.
    """
    path = memory_file(home)
    try:
        memory = read_memory(home)
    except DamagedFile as error:
        # Kept for whoever finds out what happened.
        aside = path.with_suffix(".damaged")
        path.replace(aside)
        raise DamagedFile(
            f"{error} It was moved to {aside} and is not believed."
        ) from error
    if memory is None:
        # The key is made at the first start: with a key there was a memory.
        if endpoint_key_file(home).exists():
            raise DamagedFile(
                f"The endpoint's memory {path} is missing, "
                "and the endpoint has run here before."
            )
        return RecalledState(None)
    is_signed = memory.seal is not None
    if not is_signed:
        say(
            f"{path} has no signature, as an earlier version of Assay wrote it. "
            "It is taken once, and signed from now on."
        )
    return RecalledState(memory.standing, memory.has_seen_record, is_signed)


def remember(home: Path, recalled: RecalledState) -> bool:
    """Write it, whole or not at all; gives whether there has been a head record by now."""
    has_seen_record = recalled.has_seen_record or record_file(home).exists()
    if recalled.ledger_state is not None:
        memory = Memory(
            standing=recalled.ledger_state,
            has_seen_record=has_seen_record,
        )
        write_memory(home, memory)
    return has_seen_record
