"""What a model says to prompts by `generate`, as answers are scored: one after the other."""

from collections.abc import Sequence

from pipelines.models.language_model import LanguageModel, generate

NEW_TOKENS = 10
"""Of each answer, at most."""


def texts_alone(language: LanguageModel, asked: Sequence[tuple[int, ...]]) -> list[str]:
    """The greedy answer to each prompt of token ids."""
    texts = []
    for prompt in asked:
        (answer,) = generate(
            language, [prompt], max_new_tokens=NEW_TOKENS, batch_size=1
        )
        texts.append(language.encoder.decode(answer.ids))
    return texts
