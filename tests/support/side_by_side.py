"""The same prompts asked of two engines, many at once and under every name that they have."""

import random

from pipelines.engines import Engine, GenerationRequest
from tests.support.listening import Listener

_LENGTHS = (1, 2, 17, 31, 33, 60, 170)
_SHARED = 40
_AT_ONCE = 16


def token_prompts(count: int) -> list[tuple[int, ...]]:
    """Ids of plain tokens, of any lengths; every third prompt begins alike."""
    dice = random.Random(3)
    shared = [dice.randrange(3, 250) for _ in range(_SHARED)]
    made = []
    for number in range(count):
        length = dice.choice(_LENGTHS)
        tokens = [dice.randrange(3, 250) for _ in range(length)]
        made.append(tuple([*shared, *tokens] if number % 3 == 0 else tokens))
    return made


def greedy_texts(engine: Engine, count: int, new_tokens: int) -> dict[str, list[str]]:
    """Answers to `token_prompts`, by the names under which they are asked: all stream together."""
    texts: dict[str, list[str]] = {model: [] for model in engine.specs}
    asked = [(model, prompt) for prompt in token_prompts(count) for model in texts]
    for begin in range(0, len(asked), _AT_ONCE):
        listeners = [
            (model, Listener(engine, GenerationRequest(model, prompt, new_tokens)))
            for model, prompt in asked[begin : begin + _AT_ONCE]
        ]
        for model, listener in listeners:
            texts[model].append(listener.rest()[0])
    return texts


def share_of_same(one: dict[str, list[str]], other: dict[str, list[str]]) -> float:
    """The share of answers that are the same in both, from 0 to 1."""
    pairs = [
        pair for model in one for pair in zip(one[model], other[model], strict=True)
    ]
    return sum(a == b for a, b in pairs) / len(pairs)
