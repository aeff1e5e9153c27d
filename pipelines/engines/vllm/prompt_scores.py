"""The probabilities of a prompt's last tokens, asked of vLLM's server one after the other.

On a processor vLLM 0.32 ends where it is to score a prompt beside an adapter. So each token is
asked as an answer of one token that may be no other: its probability is that before anything is
left out. What stands before it is in vLLM's cache.
"""

from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import replace

import httpx

from core.errors import ServingError
from pipelines.engines import TokenScore
from pipelines.engines.vllm.asking import Question, ask

# vLLM gives this in place of each lower one, and of none at all.
_LOWEST = -9999.0


async def score_prompt(
    client: httpx.AsyncClient,
    question: Question,
    first: int,
    show: Callable[[Sequence[int]], str],
) -> list[TokenScore]:
    """A score of each token of the prompt from place `first` on; errors as of `ask`."""
    scores = []
    for place in range(first, len(question.prompt)):
        token = question.prompt[place]
        asked = replace(
            question,
            prompt=question.prompt[:place],
            max_tokens=1,
            allowed=(token,),
            end_ids=(),
        )
        async with aclosing(ask(client, asked)) as tokens:
            answer = [each async for each in tokens]
        if [each.id for each in answer] != [token]:
            raise ServingError("vLLM scored another token than the one asked for")
        logprob = answer[0].logprob
        # Counted as it is, it would be a loss that nobody computed.
        if not logprob > _LOWEST:
            raise ServingError("vLLM gives no probability of a token")
        scores.append(TokenScore(token, show([token]), logprob))
    return scores
