"""Whether a loaded engine gives the answers that were scored."""

import asyncio
import json

from core.errors import ServingError
from registry.ledger.entries import Release
from registry.release.known_answers import KnownAnswer, draw_answers
from serving.endpoint.upstream import EngineAddress, EngineRequest, exchange
from serving.endpoint.verify import VerifiedRelease
from serving.paths import CHAT

_AT_ONCE = 4


class OtherAnswers(ServingError):
    """An engine that answers, and was not seen to answer as it was scored; the message says why."""


async def probe(engine: EngineAddress, verified: VerifiedRelease) -> str:
    """Ask the package's known answers, and as many drawn ones as the release says.

    Gives how many were the same, as in `8 of 8 known answers, 4 of 4 drawn answers`.
    `OtherAnswers` with both numbers where fewer than the release's share of either kind come back
    word for word, or where the package has too few prompts to draw from.
    """
    release = verified.release
    # In a thread: it reads the evidence of the package, which may be large.
    drawn = await asyncio.to_thread(
        draw_answers,
        verified.folder,
        release.drawn_answers,
        release.spec.default_max_tokens,
    )
    if len(drawn) < release.drawn_answers:
        raise OtherAnswers(
            f"Version {release.version} of {release.model} is to be asked "
            f"{release.drawn_answers} held-out prompts, and its package holds {len(drawn)}. "
            "Promote it again."
        )
    facts = [await probe_known(engine, verified)]
    if drawn:
        facts.append(await _compare(engine, release, drawn, "drawn answers"))
    return ", ".join(facts)


async def probe_known(engine: EngineAddress, verified: VerifiedRelease) -> str:
    """Ask the package's known answers alone; `OtherAnswers` as `probe`."""
    known = verified.known_answers
    return await _compare(engine, verified.release, known, "known answers")


async def _compare(
    engine: EngineAddress, release: Release, answers: tuple[KnownAnswer, ...], what: str
) -> str:
    outcomes: list[bool] = []
    # A process that is shared has rows of others beside these anyway, and many wait for it.
    at_once = _AT_ONCE if engine.is_shared else 1
    for start in range(0, len(answers), at_once):
        asked = answers[start : start + at_once]
        given = (_gives(engine, release.model, answer) for answer in asked)
        outcomes += await asyncio.gather(*given)
    count = len(outcomes)
    same = sum(outcomes)
    fact = f"{same} of {count} {what}"
    # Asked whether it passed: without a single known answer it did not.
    if outcomes and same >= release.known_answers_share * count:
        return fact
    raise OtherAnswers(
        f"Version {release.version} of {release.model} gave {fact}, and "
        f"{release.known_answers_share:.0%} are asked for. "
        "It does not answer here as it was scored: compare library versions and the "
        "machine's kind of CPU, and look whether its adapter is the one that was scored "
        "(`assay gate … --regenerate 20`)."
    )


async def _gives(engine: EngineAddress, model: str, answer: KnownAnswer) -> bool:
    """Whether the engine gives that answer to its prompt, word for word."""
    messages = [
        {"role": message.role, "content": message.content}
        for message in answer.messages
    ]
    fields = {
        "model": model,
        "messages": messages,
        "max_tokens": answer.max_tokens,
        # Greedy, as it was scored.
        "temperature": 0,
    }
    request = EngineRequest("POST", CHAT, json.dumps(fields).encode())
    async with exchange(engine, request) as reply:
        body = await reply.read_body()
    return reply.status == 200 and _read_text(body) == answer.text


def _read_text(body: bytes) -> str:
    completion = json.loads(body)
    choice = completion["choices"][0]
    return str(choice["message"]["content"])
