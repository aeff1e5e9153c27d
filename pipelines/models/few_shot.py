"""Few-shot examples: which training rows stand before a prompt, and how much room they have."""

import random
from collections.abc import Sequence

from core.errors import UnusableRow
from pipelines.models.answers import Messages, count_longest_reference
from pipelines.models.language_model import LanguageModel
from pipelines.values.dataset import Message, Prompt, Row
from pipelines.values.params import FewShotParams, GenerationParams


def draw_examples(
    language: LanguageModel,
    train: Sequence[Row],
    params: FewShotParams,
    number: int,
    room: int,
) -> Messages:
    """Draw `params.examples` rows as messages; fewer where they do not fit into `room` tokens."""
    # Each draw has a seed of its own: more draws do not change the earlier ones.
    dice = random.Random(f"{params.seed}/{number}")  # noqa: S311 - a draw, no secret
    rows = dice.sample(list(train), min(params.examples, len(train)))
    examples = [make_example(row) for row in rows]
    # From the end: what is left is the same draw, only shorter.
    while examples and _count_tokens(language, examples) > room:
        examples.pop()
    if not examples:
        raise UnusableRow(
            "Not one training example fits into the model's context beside the longest "
            "prompt, so that there is no prompt-only baseline to be better than. "
            "Shorten the rows, or take a base model with a longer context."
        )
    return join_messages(examples)


def count_free_tokens(
    language: LanguageModel,
    dev: Sequence[Row],
    prompts: Sequence[Prompt],
    params: GenerationParams,
) -> int:
    """Count the tokens that the longest conversation leaves free in the context.

    Only lengths of the held-out prompts are looked at.
    """
    encoder = language.encoder
    needs: list[int] = []
    for row in dev:
        prompt_ids, answer_ids = encoder.encode_example(row.messages, row.completion)
        needs.append(len(prompt_ids) + len(answer_ids))
    # References need room, too: their losses are measured after the same examples.
    for prompt in prompts:
        longest = count_longest_reference(encoder, prompt)
        prompt_tokens = len(encoder.prompt_ids(prompt.messages))
        answer_tokens = max(longest, params.max_new_tokens)
        needs.append(prompt_tokens + answer_tokens)
    return language.context_tokens - max(needs)


def make_example(row: Row) -> Messages:
    """A row as the messages of one example: its question and its answer."""
    completion = Message(role="assistant", content=row.completion)
    messages = row.messages
    # The conversation's own system message comes once, before all examples.
    if messages[0].role == "system":
        messages = messages[1:]
    return (*messages, completion)


def _count_tokens(language: LanguageModel, examples: Sequence[Messages]) -> int:
    messages = join_messages(examples)
    encoder = language.encoder
    ids = encoder.prompt_ids(messages)
    return len(ids)


def join_messages(examples: Sequence[Messages]) -> Messages:
    """The messages of several examples, one after the other."""
    messages: list[Message] = []
    for example in examples:
        messages += example
    return tuple(messages)
