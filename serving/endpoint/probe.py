"""Whether a loaded engine says again what was scored."""

import asyncio
import json

from core.errors import ServingError
from registry.ledger.entries import Release
from registry.release.known_answers import KnownAnswer, draw_answers
from serving.endpoint.upstream import Address, Asked, exchange
from serving.endpoint.verify import Verified

CHAT = "/v1/chat/completions"


async def probe(engine: Address, verified: Verified) -> str:
    """Ask the package's known answers, and as many drawn ones as the release says; gives how many were the same.

    `ServingError` with both numbers where fewer than the release's share of either kind come back word for word.
    """
    release = verified.release
    drawn = await asyncio.to_thread(
        draw_answers,
        verified.folder,
        release.drawn_answers,
        release.spec.default_max_tokens,
    )
    if len(drawn) < release.drawn_answers:
        raise ServingError(
            f"Version {release.version} of {release.model} is to be asked {release.drawn_answers} held-out prompts, "
            f"and its package holds {len(drawn)}. Promote it again."
        )
    facts = [await _asked(engine, release, verified.known_answers, "known answers")]
    if drawn:
        facts.append(await _asked(engine, release, drawn, "drawn answers"))
    return ", ".join(facts)


async def _asked(
    engine: Address, release: Release, known: tuple[KnownAnswer, ...], what: str
) -> str:
    again = [await _says_again(engine, release.model, each) for each in known]
    fact = f"{sum(again)} of {len(again)} {what}"
    # Asked whether it passed: without a single known answer nothing did.
    if again and sum(again) >= release.known_answers_share * len(again):
        return fact
    raise ServingError(
        f"Version {release.version} of {release.model} gave {fact}, and {release.known_answers_share:.0%} are asked for. "
        "It does not answer here as it was scored: compare library versions and the machine's kind of CPU, "
        "and look whether its adapter is the one that was scored (`assay gate … --regenerate 20`)."
    )


async def _says_again(engine: Address, model: str, known: KnownAnswer) -> bool:
    messages = [
        {"role": message.role, "content": message.content} for message in known.messages
    ]
    body = {
        "model": model,
        "messages": messages,
        "max_tokens": known.max_tokens,
        "temperature": 0,
    }
    async with exchange(
        engine, Asked("POST", CHAT, json.dumps(body).encode())
    ) as reply:
        answer = await reply.whole()
    return reply.status == 200 and _text(answer) == known.text


def _text(answer: bytes) -> str:
    return str(json.loads(answer)["choices"][0]["message"]["content"])
