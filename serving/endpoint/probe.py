"""Whether a loaded engine says again what was scored."""

import json

from pipelines.errors import ServingError
from pipelines.known_answers import KnownAnswer
from registry.entries import Release
from serving.endpoint.upstream import Asked, exchange

CHAT = "/v1/chat/completions"


async def probe(port: int, release: Release, known: tuple[KnownAnswer, ...]) -> str:
    """`N of M known answers`, where they reach the release's share; else a `ServingError` with both numbers."""
    asked = [await _says_again(port, release.model, each) for each in known]
    fact = f"{sum(asked)} of {len(asked)} known answers"
    # Asked whether it passed: without a single known answer nothing did.
    if asked and sum(asked) >= release.known_answers_share * len(asked):
        return fact
    raise ServingError(
        f"Version {release.version} of {release.model} gave {fact}, and {release.known_answers_share:.0%} are asked for. "
        "It does not answer here as it was scored: compare library versions and the machine's kind of CPU."
    )


async def _says_again(port: int, model: str, known: KnownAnswer) -> bool:
    messages = [{"role": message.role, "content": message.content} for message in known.messages]
    body = {"model": model, "messages": messages, "max_tokens": known.max_tokens, "temperature": 0}
    async with exchange(port, Asked("POST", CHAT, json.dumps(body).encode())) as reply:
        answer = await reply.whole()
    return reply.status == 200 and _text(answer) == known.text


def _text(answer: bytes) -> str:
    return str(json.loads(answer)["choices"][0]["message"]["content"])
