"""How many requests a minute and tokens a day each API key has left.

Counted in this process: an endpoint that is started again begins to count anew.
"""

import math
import time
from collections import Counter

from limits import RateLimitItem, RateLimitItemPerDay, RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import (
    FixedWindowRateLimiter,
    MovingWindowRateLimiter,
    RateLimiter,
)

from pipelines.engines.refusal import Refusal
from serving.endpoint.api_keys import ApiKey

# Wrong keys from one address.
_GUESSES = RateLimitItemPerMinute(20)
# Requests that a key with a budget of tokens has at once: each may go beyond the budget.
_MOST_AT_ONCE = 16
_SECONDS_TO_COME_BACK = 1


class Quotas:
    """What keys have used. Its methods belong to one event loop."""

    def __init__(self) -> None:
        storage = MemoryStorage()
        # No minute has more requests than allowed, wherever it begins.
        self._requests = MovingWindowRateLimiter(storage)
        # An answer's tokens are known at its end and counted then, also beyond the limit.
        self._tokens = FixedWindowRateLimiter(storage)
        self._running: Counter[str] = Counter()

    async def begin_request(self, key: ApiKey) -> None:
        """Count a request, up to its `end_request`.

        `Refusal` where the key has no request or no token left, or too many requests at once.
        """
        # Before anything is awaited: requests that arrive together all find tokens left.
        self._begin_running(key)
        try:
            await self._check_tokens(key)
            await self._count_request(key)
        except BaseException:
            self._end_running(key)
            raise

    async def end_request(self, key: ApiKey, tokens: int) -> None:
        """Count the tokens of its answer, prompt included."""
        self._end_running(key)
        if key.tokens_per_day is None or tokens == 0:
            return
        budget = RateLimitItemPerDay(key.tokens_per_day)
        await self._tokens.hit(budget, "tokens", key.id, cost=tokens)

    def _begin_running(self, key: ApiKey) -> None:
        if key.tokens_per_day is None:
            return
        count = self._running[key.id]
        if count >= _MOST_AT_ONCE:
            # Soon over, unlike the other limits: a client that tries again finds a place.
            raise _at_once_error()
        self._running[key.id] += 1

    def _end_running(self, key: ApiKey) -> None:
        if key.tokens_per_day is not None:
            self._running[key.id] -= 1

    async def _check_tokens(self, key: ApiKey) -> None:
        if key.tokens_per_day is None:
            return
        budget = RateLimitItemPerDay(key.tokens_per_day)
        if not await self._tokens.test(budget, "tokens", key.id):
            seconds = await _seconds_left(self._tokens, budget, "tokens", key.id)
            raise _used_up_error(f"{key.tokens_per_day} tokens a day", seconds)

    async def _count_request(self, key: ApiKey) -> None:
        if key.requests_per_minute is None:
            return
        rate = RateLimitItemPerMinute(key.requests_per_minute)
        whose = ("requests", key.id)
        if not await self._requests.hit(rate, *whose):
            seconds = await _seconds_left(
                self._requests,
                rate,
                *whose,
            )
            limit = f"{key.requests_per_minute} requests a minute"
            raise _used_up_error(limit, seconds)

    async def count_guess(self, address: str) -> None:
        """Count a wrong key; `Refusal` where an address has sent too many."""
        if not await self._requests.hit(_GUESSES, "guesses", address):
            seconds = await _seconds_left(self._requests, _GUESSES, "guesses", address)
            raise _used_up_error("20 wrong API keys a minute", seconds)


async def _seconds_left(
    limiter: RateLimiter, item: RateLimitItem, *identifiers: str
) -> int:
    """Until something is free again, at least 1."""
    stats = await limiter.get_window_stats(item, *identifiers)
    seconds = stats.reset_time - time.time()
    # Rounded down, a client would come back a moment too early.
    whole = math.ceil(seconds)
    return max(1, whole)


def _at_once_error() -> Refusal:
    return Refusal(
        f"A key with a limit of tokens has at most {_MOST_AT_ONCE} requests at once. "
        f"Try again in {_SECONDS_TO_COME_BACK} s.",
        status=429,
        kind="rate_limit_error",
        code="rate_limit_exceeded",
        retry_after=_SECONDS_TO_COME_BACK,
    )


def _used_up_error(limit: str, seconds: int) -> Refusal:
    return Refusal(
        f"{limit} are used up. Try again in {seconds} s.",
        status=429,
        kind="rate_limit_error",
        code="rate_limit_exceeded",
        retry_after=seconds,
    )
