"""A filter of the project's own, such as a classifier: a function that is given side and text.

It answers None or True where the text may pass, False where it may not, and a text that is to stand
in its place. Whatever else happens, or takes too long, counts as False.
"""

import asyncio
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from core.errors import ServingError
from serving.guardrails.threads import AbandonableThreads

Side = Literal["request", "response"]
# Texts that a function is asked about at once; more wait, within their seconds.
_MOST_AT_ONCE = 8


@dataclass(frozen=True)
class HookVerdict:
    """What becomes of a text."""

    text: str
    # `pass`, `mask`, `refuse`, or `fail` where it gave no answer.
    action: Literal["pass", "mask", "refuse", "fail"]

    @property
    def is_refused(self) -> bool:
        """Whether the text may not pass."""
        return self.action in ("refuse", "fail")


class Hook:
    """The function, and how long it may take."""

    def __init__(self, name: str, seconds: float) -> None:
        self._function = _load(name)
        self._seconds = seconds
        # Not the event loop's own threads: a function that hangs would take them all, and with
        # them metrics and whatever else is done in a thread.
        self._threads = AbandonableThreads(_MOST_AT_ONCE, "hook")

    async def ask(self, side: Side, text: str) -> HookVerdict:
        """What it says of a text, asked in a thread."""
        # A thread cannot be ended: one that hangs is left behind, and its text refused.
        asking = self._threads.call(self._function, side, text)
        try:
            said = await asyncio.wait_for(asking, self._seconds)
        except Exception:  # noqa: BLE001 - a filter that fails lets nothing through
            return HookVerdict(text, "fail")
        return _verdict(said, text)


def _verdict(said: Any, text: str) -> HookVerdict:
    if said is None or said is True:
        return HookVerdict(text, "pass")
    if isinstance(said, str):
        return HookVerdict(said, "pass" if said == text else "mask")
    return HookVerdict(text, "refuse" if said is False else "fail")


def _load(name: str) -> Callable[[Side, str], Any]:
    module, _, function = name.partition(":")
    try:
        loaded = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ServingError(
            f"The hook {name} of the guardrails cannot be loaded ({error}). "
            "Install its module where the endpoint runs."
        ) from error
    if not callable(loaded):
        raise ServingError(
            f"The hook {name} of the guardrails is no function. "
            "Name one that takes a side and a text."
        )
    return loaded  # type: ignore[no-any-return]
