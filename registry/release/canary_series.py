"""What a canary counted over time, for the curves of its report: `HOME/canaries/ENTRY.jsonl`.

The curves are for people. What a release may do follows from the counts of the last look alone, so
a lost or edited file changes no decision, and a full disk stops no release.
"""

import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from pydantic import AwareDatetime, ValidationError

from core.value import Value
from registry.ledger.state import ModelState
from registry.release.canary_counts import CanaryReport
from registry.release.following import EndpointState

SECONDS_BETWEEN = 1.0
"""A driver looks ten times a second; nobody could tell that many points apart."""
MOST_BYTES = 2_000_000
"""About a thousand looks: a canary that waits for days must not fill the disk."""


class CanaryLook(Value):
    """The counts at one moment."""

    at: AwareDatetime
    weight: int
    """Percent of the requests that the candidate got."""
    report: CanaryReport


def note_look(
    home: Path, model_state: ModelState, endpoint_state: EndpointState, now: datetime
) -> None:
    """Keep the counts of the release on its way, where the last ones are old enough."""
    recorded = model_state.pending or model_state.answering
    if recorded is None or recorded.canary is None:
        return
    report = endpoint_state.canary(recorded.begun)
    # Before its first step a canary has no counts: a curve would begin in nothing.
    if report is None or report.step is None:
        return
    # After the switch every request is the candidate's, whatever its last share was.
    is_baking = report.stage == "bake"
    weight = 100 if is_baking else recorded.canary.weight or 0
    look = CanaryLook(
        at=now,
        weight=weight,
        report=report,
    )
    # Whatever is wrong with the disk, the release goes on.
    with suppress(OSError):
        _append(_file(home, recorded.begun), look)


def read_looks(home: Path, begun: int) -> tuple[CanaryLook, ...]:
    """The looks at the release of that entry, oldest first; none where nothing was kept."""
    path = _file(home, begun)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ()
    looks = []
    # By `splitlines` a line would end within a detail that holds U+2028.
    for line in text.split("\n"):
        # A driver that was killed leaves half a line.
        with suppress(ValidationError):
            looks.append(CanaryLook.model_validate_json(line))
    return tuple(looks)


def _append(path: Path, look: CanaryLook) -> None:
    if not _is_due(path):
        return
    # Without `parents`: a home that was deleted stays deleted.
    # Counts tell how much is asked, which is nobody else's business.
    path.parent.mkdir(mode=0o700, exist_ok=True)
    line = look.model_dump_json()
    with path.open("a", encoding="utf-8") as file:
        # A line end first: half a line of a killed driver stays alone.
        file.write(f"\n{line}")


def _is_due(path: Path) -> bool:
    try:
        facts = path.stat()
    except FileNotFoundError:
        return True
    # By the file, not by a clock of this process: several drivers may look at one release.
    age = time.time() - facts.st_mtime
    # A clock that was set back has files from the future.
    is_old = not 0 <= age < SECONDS_BETWEEN
    return is_old and facts.st_size < MOST_BYTES


def _file(home: Path, begun: int) -> Path:
    # By the entry: a version that is tried again has curves of its own.
    return home / "canaries" / f"{begun}.jsonl"
