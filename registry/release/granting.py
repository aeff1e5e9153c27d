"""What becomes of an open wish: which way it is granted, and when what is on its way gives way.

```
served before ──────────────► roll back to it: nothing is judged again, where it is known who asks
serves, nothing on its way ─► nothing to do, which is said
anything else ──────────────► judge it; where it passes, stop what is on its way and release it
```

A wish for a version that is not fit stops nothing: what is on its way was judged, and goes on.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from core.errors import AssayError, IllegalEntry
from registry.ledger.entries import Judged, WishClosed
from registry.ledger.ledger import Ledger
from registry.ledger.state import (
    LedgerState,
    ModelState,
    RecordedRelease,
    RecordedWish,
)
from registry.release.brakes import roll_back
from registry.release.context import ChangeRequest, ReleaseContext, append
from registry.release.wishing import find_answer, is_of, is_of_nobody_known

Release = Callable[[ChangeRequest], str]
"""Judges the version and begins its release; gives what keeps it from that, or nothing."""


class Answered(NamedTuple):
    """What became of a wish, as a sentence."""

    sentence: str
    has_failed: bool = False
    """It was granted and came to nothing: who asked has been told otherwise."""


def answer(
    model: str, wish: RecordedWish, ledger: Ledger, try_to_grant: Callable[[], str]
) -> Answered:
    """Grant an open wish, or close it with what is in the way.

    `LedgerError` where the answer cannot be entered: the wish stays open.
    """
    try:
        obstacle = try_to_grant()
    # Told to the person: what is in the way now may be gone at the next wish.
    except AssayError as error:
        obstacle = str(error)
    except Exception as error:  # noqa: BLE001 - an open wish would be tried again in every round
        obstacle = f"it cannot be judged ({type(error).__name__}: {str(error)[:200]})"
    # As a line of the log and a notice to people.
    name = f"the wish of {wish.by} for {model} version {wish.version}"
    if not obstacle:
        return Answered(f"Granted: {name}.")
    _close(ledger, wish, obstacle)
    given = find_answer(ledger, wish.generation)
    # A release that began and failed later is the answer, too.
    if given is not None and given.is_granted:
        sentence = f"Granted: {name}. {obstacle}"
        return Answered(sentence, has_failed=True)
    return Answered(f"Refused: {name}: {obstacle}")


def _close(ledger: Ledger, wish: RecordedWish, obstacle: str) -> None:
    # The text is kept first: no entry may refer to a reason that is nowhere.
    reason_sha256 = ledger.remember(obstacle)
    closed = WishClosed(wished=wish.generation, reason_sha256=reason_sha256)
    # Answered, superseded or taken back meanwhile.
    with suppress(IllegalEntry):
        append(ledger, lambda _: closed)


def grant(
    model: str,
    wish: RecordedWish,
    order: ChangeRequest,
    context: ReleaseContext,
    release: Release,
) -> str:
    """Release the version or go back to it; gives what keeps it from that, or nothing.

    Errors as of `roll_back` and of `release`.
    """
    ledger_state = context.ledger.state()
    model_state = ledger_state.model(model)
    is_going_back = _leads_back(ledger_state, model_state, wish)
    # Only a person whom somebody knows stops what is on its way by that.
    can_stop = is_going_back and model_state.pending is not None
    if _answers(model_state, wish) and not can_stop:
        return f"Version {wish.version} of {model} serves already"
    if not is_going_back:
        return release(order)
    roll_back(
        model,
        wish.version,
        order,
        context,
        wish.package_sha256,
    )
    return ""


def goes_back(ledger_state: LedgerState, model: str) -> bool:
    """Whether the open wish is for a version that served before, so that nothing is judged."""
    model_state = ledger_state.model(model)
    wish = model_state.wish
    return wish is not None and _leads_back(ledger_state, model_state, wish)


def stops(
    ledger_state: LedgerState, model: str, pending: RecordedRelease
) -> RecordedWish | None:
    """The wish to which the release on its way gives way now; None where it goes on.

    A wish from before it began is judged against what comes of it, which somebody ordered since.
    """
    model_state = ledger_state.model(model)
    wish = model_state.wish
    if wish is None or wish.generation < pending.begun:
        return None
    is_going_back = _leads_back(ledger_state, model_state, wish)
    is_due = is_going_back or _has_passed(ledger_state, model, wish)
    return wish if is_due else None


def _has_passed(ledger_state: LedgerState, model: str, wish: RecordedWish) -> bool:
    """Whether `judge` passed the wished version since, and found nothing against it later."""
    verdicts = [
        judged.verdict
        for generation, judged in ledger_state.judged.items()
        if generation > wish.generation and _is_about(judged, model, wish)
    ]
    return bool(verdicts) and verdicts[-1] == "passed"


def _is_about(judged: Judged, model: str, wish: RecordedWish) -> bool:
    # A number may have been given out twice: the verdict is on bytes.
    # A wish that names no bytes is about whatever has its number.
    is_same_package = wish.package_sha256 in {
        None,
        judged.package_sha256,
    }
    is_same_version = judged.version == wish.version
    is_same_model = judged.model == model
    claims = (
        is_same_model,
        is_same_version,
        is_same_package,
    )
    return all(claims)


def _leads_back(
    ledger_state: LedgerState, model_state: ModelState, wish: RecordedWish
) -> bool:
    # Going back is a person's decision against what was judged since: nobody known has it judged.
    if is_of_nobody_known(wish, ledger_state):
        return False
    matching = [
        recorded
        for recorded in model_state.once_served
        if is_of(recorded, wish.version, wish.package_sha256)
    ]
    return bool(matching)


def _answers(model_state: ModelState, wish: RecordedWish) -> bool:
    """Whether it has full traffic."""
    answering = model_state.answering
    return answering is not None and is_of(answering, wish.version, wish.package_sha256)
