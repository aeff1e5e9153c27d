"""Whether an engine process still answers."""

import asyncio

from serving.endpoint.upstream import EngineAddress, EngineLost, EngineRequest, exchange

SECONDS_FOR_A_CHECK = 10.0
# So many in a row, and the process counts as hung.
_MISSED_CHECKS = 3


async def wait_until_hung(engine: EngineAddress, seconds_between_checks: float) -> str:
    """Wait until it has not answered several checks in a row; a sentence that says so."""
    missed = 0
    while missed < _MISSED_CHECKS:
        await asyncio.sleep(seconds_between_checks)
        is_alive = await _is_alive(engine)
        missed = 0 if is_alive else missed + 1
    return f"its engine process did not answer {missed} health checks in a row"


async def _is_alive(engine: EngineAddress) -> bool:
    request = EngineRequest("GET", "/readyz")
    try:
        async with (
            asyncio.timeout(SECONDS_FOR_A_CHECK),
            exchange(engine, request) as reply,
        ):
            return reply.status == 200
    except (EngineLost, TimeoutError):
        return False
