"""What two boxes said, judged: only the token that the tests' box was given is a pass.

An exit code says nothing: `os._exit(0)` gives 0 as well.
"""

from core.errors import SandboxUnavailable
from core.value import Value
from pipelines.sandbox.boxed import BEGUN

_FAILED = "failed: "


class Outcome(Value):
    """Whether an answer passed its tests, and why not, in a few words."""

    passed: bool
    reason: str


def judge(said: bytes, token: str, *, was_in_time: bool, why: str) -> Outcome:
    """Judge what came out of the descriptor that only the tests' box has.

    `why` is what bubblewrap said, for `SandboxUnavailable`: the boxes did not start, so nothing
    is known of the answer.
    """
    if not said.startswith(BEGUN):
        raise SandboxUnavailable(
            f"A box did not start: {why or 'it says nothing'}. "
            "Nothing was run without it. Install bubblewrap 0.8 or later."
        )
    verdict = said.removeprefix(BEGUN)
    # Asked as a pass, for the whole of what was said.
    if was_in_time and verdict == token.encode():
        return Outcome(passed=True, reason="passed")
    if not was_in_time:
        return Outcome(passed=False, reason="it did not end in time")
    text = verdict.decode(errors="replace")
    if not text.startswith(_FAILED):
        return Outcome(passed=False, reason="its tests ended without a verdict")
    words = text.removeprefix(_FAILED)
    reason = _one_line(words)
    return Outcome(passed=False, reason=reason)


def _one_line(text: str) -> str:
    """For tables and terminals: nothing that moves a cursor."""
    letters = [letter if letter.isprintable() else " " for letter in text]
    shown = "".join(letters)
    words = shown.split()
    line = " ".join(words)
    return line[:200]
