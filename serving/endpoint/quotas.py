"""How many requests a minute and tokens a day each API key has left.

Counted in this process: an endpoint that is started again begins to count anew.
"""

import math
import time

from limits import RateLimitItem, RateLimitItemPerDay, RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import (
    FixedWindowRateLimiter,
    MovingWindowRateLimiter,
    RateLimiter,
)

from serving.endpoint.api_keys import ApiKey
from serving.refusal import Refusal

# Wrong keys from one address.
_GUESSES = RateLimitItemPerMinute(20)


class Quotas:
    """What keys have used. Its methods belong to one event loop."""

    def __init__(self) -> None:
        storage = MemoryStorage()
        # No minute has more requests than allowed, wherever it begins.
        self._requests = MovingWindowRateLimiter(storage)
        # An answer's tokens are known at its end and counted then, also beyond the limit.
        self._tokens = FixedWindowRateLimiter(storage)

    async def begin_request(self, key: ApiKey) -> None:
        """Count a request; `Refusal` where the key has no request or no token left."""
        if key.tokens_per_day is not None:
            budget = RateLimitItemPerDay(key.tokens_per_day)
            if not await self._tokens.test(budget, "tokens", key.id):
                seconds = await _seconds_left(self._tokens, budget, "tokens", key.id)
                raise _used_up_error(f"{key.tokens_per_day} tokens a day", seconds)
        if key.requests_per_minute is not None:
            rate = RateLimitItemPerMinute(key.requests_per_minute)
            if not await self._requests.hit(rate, "requests", key.id):
                seconds = await _seconds_left(self._requests, rate, "requests", key.id)
                raise _used_up_error(
                    f"{key.requests_per_minute} requests a minute", seconds
                )

    async def charge(self, key: ApiKey, tokens: int) -> None:
        """Count the tokens of an answer, prompt included."""
        if key.tokens_per_day is None or tokens == 0:
            return
        budget = RateLimitItemPerDay(key.tokens_per_day)
        await self._tokens.hit(budget, "tokens", key.id, cost=tokens)

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
    whole = math.ceil(seconds)
    return max(1, whole)


def _used_up_error(limit: str, seconds: int) -> Refusal:
    return Refusal(
        f"{limit} are used up. Try again in {seconds} s.",
        status=429,
        kind="rate_limit_error",
        code="rate_limit_exceeded",
        retry_after=seconds,
    )
