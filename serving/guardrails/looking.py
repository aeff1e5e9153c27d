"""Where texts are looked at: in the event loop, or in a thread where that may take long."""

from collections import Counter
from collections.abc import Callable

from serving.guardrails.patterns import Pattern
from serving.guardrails.text_filter import filtered
from serving.guardrails.threads import AbandonableThreads

# Bytes: a longer text is looked at in a thread, so that nobody else waits.
_LONG = 8_192
# Looks in threads; more wait.
_MOST_AT_ONCE = 8
Look = Callable[[bytes], bytes]


class Looking:
    """Looks at the texts of one side, which a function is given and gives back."""

    def __init__(self, patterns: tuple[Pattern, ...]) -> None:
        self._threads = AbandonableThreads(_MOST_AT_ONCE, "guardrails")
        # A project's own may need all its time for the shortest text. `regex` lets other threads
        # run meanwhile.
        self._may_be_slow = any(each.seconds is not None for each in patterns)

    async def at(self, text: bytes, look: Look) -> bytes:
        """What a look makes of a text."""
        if self._may_be_slow or len(text) > _LONG:
            return await self._threads.call(look, text)
        return look(text)


class RequestLook:
    """One look at all texts of a request."""

    def __init__(self, patterns: tuple[Pattern, ...]) -> None:
        self.found: Counter[str] = Counter()
        self.refused_for = ""
        self._patterns = patterns

    def change(self, text: str) -> str:
        """Mask a text, and remember what was found in it."""
        # No engine sees a request that is refused: what else it holds need not be known.
        if self.refused_for:
            return text
        masked, text_filter = filtered(self._patterns, text)
        self.found += text_filter.found
        self.refused_for = text_filter.refused_for
        # Without those that only count and need too long: a request may have a thousand texts.
        self._patterns = text_filter.patterns
        return masked
