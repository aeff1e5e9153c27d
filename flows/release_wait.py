"""Wait for a release that may have a canary of days, without keeping others from the lock."""

import time
from pathlib import Path

from core.locks import exclusive, release_lock, share_home
from registry.ledger.ledger import Ledger
from registry.ledger.state import RecordedRelease
from registry.release.context import ReleaseContext
from registry.release.release import drive_release, find_outcome


def see_release_through(
    home: Path, model: str, begun: int, context: ReleaseContext
) -> RecordedRelease:
    """Drive the release that began at that generation to its end; give it where it serves.

    `ReleaseError` with the reason where it was aborted, or was stopped.
    """
    while True:
        # The lock is free between two looks: others release other models meanwhile.
        drive_as_far_as_it_goes(home, model, context)
        if not is_on_its_way(context.ledger, model, begun):
            return find_outcome(context.ledger, model, begun)
        time.sleep(context.patience.between_looks)


def drive_as_far_as_it_goes(home: Path, model: str, context: ReleaseContext) -> None:
    """Drive a model's release until it is at rest, or its canary needs time or traffic."""
    with share_home(home), exclusive(release_lock(home)):
        drive_release(model, context, waits=False)


def is_on_its_way(ledger: Ledger, model: str, begun: int) -> bool:
    """Whether that very release is still to be switched, or to be completed."""
    model_state = ledger.state().model(model)
    pending, answering = model_state.pending, model_state.answering
    if pending is not None and pending.begun == begun:
        return True
    # Aborted, rolled back, or another one by now.
    if answering is None or answering.begun != begun:
        return False
    return not answering.is_completed
