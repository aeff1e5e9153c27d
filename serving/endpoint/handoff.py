"""Requests that are handed to a person: a message to an address, which somebody watches."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import httpx

from core.errors import ServingError

# At once: while a model is down, every request may come here.
_MOST_AT_ONCE = 8


class Handoff:
    """Sends messages to one address; the address may hold a secret and is in no log."""

    def __init__(self, url: str, seconds: float) -> None:
        if not url.startswith(("http://", "https://")):
            raise ServingError(
                "ASSAY_HANDOFF_URL is no http(s) address, and the rules hand requests to a "
                "person. Give the address of a webhook."
            )
        self._url = url
        self._seconds = seconds
        self._running = asyncio.Semaphore(_MOST_AT_ONCE)

    async def hand_over(self, answer_id: str, model: str, messages: Any) -> bool:
        """Whether somebody took it. `messages` is None where texts are not sent."""
        # Not in a queue: the next step answers at once.
        if self._running.locked():
            return False
        message = {
            "object": "assay.handoff",
            "id": answer_id,
            "model": model,
            "time": datetime.now(UTC).isoformat(),
            "messages": messages,
        }
        async with self._running:
            try:
                # Of everything together: httpx's own limit begins anew with every byte.
                async with asyncio.timeout(self._seconds):
                    return await self._post(message)
            except (httpx.HTTPError, httpx.InvalidURL, TimeoutError):
                return False

    async def _post(self, message: dict[str, Any]) -> bool:
        # No redirects: texts go to the address that was configured, and nowhere else.
        async with (
            httpx.AsyncClient(timeout=self._seconds) as client,
            client.stream("POST", self._url, json=message) as response,
        ):
            # Its body is not read: it may be of any size.
            return response.is_success
