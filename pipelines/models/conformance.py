"""What Assay makes of a base model: shown to people, and checked before anything is trained.

each row alone, one plain pass       what answers and losses have to follow
a few alone, with a cache            as the endpoint answers
all in batches                       as scoring answers and measures losses
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

from core.errors import UnusableBaseModel, first_line
from pipelines.models.asked_rows import Generated
from pipelines.models.batching import Batching
from pipelines.models.chat import Example
from pipelines.models.language_model import (
    LanguageModel,
    generate,
    measure_completion_losses,
)
from pipelines.values.conformance import Conformance
from pipelines.values.params import GenerationParams

SAMPLE = 12
"""Rows that are asked."""
MOST_NEW_TOKENS = 48
# Answers that are also made alone: a token at a time, each takes as long as a whole batch.
_ALONE = 4
# Losses of a batch and alone, relative: other shapes of matrices round in another order.
_LOSS_TOLERANCE = {"float32": 1e-4, "bfloat16": 0.05}
# Two next tokens as likely as this, in nats, are a tie, which rounding decides.
_TIE = {"float32": 1e-3, "bfloat16": 0.1}
# Difference of logits, as a share of the largest one.
_LOOKS_AHEAD = 1e-5


@dataclass(frozen=True)
class Asked:
    """A base model under the name that people know, and the examples that it is asked."""

    base_id: str
    notes: tuple[str, ...]
    language: LanguageModel
    examples: Sequence[Example]


@dataclass(frozen=True)
class _Answers:
    """Answers to the examples in batches, to the first ones alone; and losses in both ways."""

    together: tuple[Generated, ...]
    alone: tuple[Generated, ...]
    losses_together: tuple[float, ...]
    losses_alone: tuple[float, ...]


def check_conformance(asked: Asked, params: GenerationParams) -> Conformance:
    """Ask the examples, all in batches and a few alone.

    `UnusableBaseModel` where the model does not run, looks ahead, gives no numbers, or where its
    cache or batches change the outcome.
    """
    with _explain_failure(asked.base_id):
        _check_causality(asked)
        new_tokens = _count_new_tokens(asked, params)
        answers = _ask(asked, new_tokens, params.batch_size)
        _check_losses(asked, answers)
        _check_cache(asked, answers)
        difference = _measure_difference(answers)
        _check_batches(asked, answers, difference, params.batch_size)
    return _describe(asked, answers, difference, new_tokens)


@contextmanager
def _explain_failure(base_id: str) -> Iterator[None]:
    """Within, whatever a model's own code fails with is `UnusableBaseModel`."""
    try:
        yield
    except (RuntimeError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise UnusableBaseModel(
            f"{base_id} cannot be asked a prompt ({first_line(error)}). "
            "Try it with transformers by itself, or take another model."
        ) from error


def _describe(
    asked: Asked, answers: _Answers, difference: float, new_tokens: int
) -> Conformance:
    """What was seen, once every check has passed."""
    encoder = asked.language.encoder
    prompt, answer = asked.examples[0]
    others = [end for end in encoder.end_ids if end != encoder.end_id]
    ends = [encoder.end_id, *others]
    return Conformance(
        base_id=asked.base_id,
        template_notes=asked.notes,
        example=encoder.show([*prompt, *answer]),
        end_tokens=tuple(encoder.show([end]) for end in ends),
        ends_are_written=encoder.ends.is_written,
        bos_tokens=_count_leading(prompt, encoder.tokenizer.bos_token_id),
        context_tokens=asked.language.context_tokens,
        batching=asked.language.batching.value,
        asked=len(asked.examples),
        largest_loss_difference=difference,
        ended=sum(answer.ended for answer in answers.together),
        new_tokens=new_tokens,
    )


def _count_new_tokens(asked: Asked, params: GenerationParams) -> int:
    """Count the tokens that each answer may have: all prompts leave room for them."""
    longest = max(len(prompt) for prompt, _ in asked.examples)
    room = asked.language.context_tokens - longest
    return min(params.max_new_tokens, MOST_NEW_TOKENS, room)


def _check_causality(asked: Asked) -> None:
    """Refuse an encoder: what it says of a token depends on later ones."""
    import torch

    prompt, answer = asked.examples[0]
    ids = [*prompt, *answer]
    # Only the last token differs: what is said of those before it has to be the same.
    other_token = next(token for token in (*ids, ids[-1] - 1) if token != ids[-1])
    other = [*ids[:-1], max(0, other_token)]
    rows = torch.tensor([ids, other], device=asked.language.device)
    with torch.inference_mode():
        logits = asked.language.model(input_ids=rows).logits[:, :-1].float()
    difference = float((logits[0] - logits[1]).abs().max())
    largest = float(logits[0].abs().max())
    # Both rows have one shape, so that a model that does not look ahead rounds alike.
    if not isfinite(difference):
        raise _describe_no_numbers(asked)
    if difference <= _LOOKS_AHEAD * max(1.0, largest):
        return
    raise UnusableBaseModel(
        f"{asked.base_id} looks ahead, which does not continue a text: another last token "
        f"changes what it says of those before it by {difference:.2g}. Give a decoder."
    )


def _count_leading(ids: list[int], token: int | None) -> int:
    """Count how often the ids begin with a token."""
    count = 0
    while ids[count : count + 1] == [token]:
        count += 1
    return count


def _ask(asked: Asked, new_tokens: int, batch_size: int) -> _Answers:
    language, examples = asked.language, asked.examples
    # One row without padding and without a prefix: what nothing of ours can change.
    plain = replace(language, batching=Batching.EQUAL_LENGTHS)
    prompts = [prompt for prompt, _ in examples]
    alone: list[Generated] = []
    for prompt in prompts[:_ALONE]:
        alone += generate(plain, [prompt], max_new_tokens=new_tokens, batch_size=1)
    losses: list[float] = []
    for example in examples:
        losses += measure_completion_losses(plain, [example], batch_size=1)
    together = generate(
        language,
        prompts,
        max_new_tokens=new_tokens,
        batch_size=batch_size,
    )
    losses_together = measure_completion_losses(
        language,
        examples,
        batch_size=batch_size,
    )
    return _Answers(
        together=together,
        alone=tuple(alone),
        losses_together=losses_together,
        losses_alone=tuple(losses),
    )


def _check_losses(asked: Asked, answers: _Answers) -> None:
    losses = (*answers.losses_alone, *answers.losses_together)
    # Each by itself: a NaN gets lost in a maximum.
    if not all(isfinite(loss) for loss in losses):
        raise _describe_no_numbers(asked)


def _describe_no_numbers(asked: Asked) -> UnusableBaseModel:
    return UnusableBaseModel(
        f"{asked.base_id} gives losses that are no numbers. "
        "Look at its weights, or set generation.precision=float32."
    )


def _check_cache(asked: Asked, answers: _Answers) -> None:
    """Refuse a model whose cache changes what it says: its scores would be no model's.

    Losses are measured on whole rows, without the cache that an answer is made with.
    """
    wrong = _count_not_greedy(asked, answers.alone)
    if wrong:
        raise UnusableBaseModel(
            f"{asked.base_id} gives {wrong} of {len(answers.alone)} answers that it does not "
            "give without its key-value cache, which is a fault of its code in transformers. "
            "Take another version of transformers, or another model."
        )


def _check_batches(
    asked: Asked, answers: _Answers, difference: float, batch_size: int
) -> None:
    wrong = _count_not_greedy(asked, answers.together)
    tolerance = _LOSS_TOLERANCE[asked.language.arithmetic]
    # Asked as a pass: a NaN is within no tolerance.
    if not wrong and difference <= tolerance:
        return
    remedy = "Set generation.batch_size=1 for it."
    if batch_size == 1:
        remedy = "It counts positions in a way of its own: take another model."
    raise UnusableBaseModel(
        f"{asked.base_id} answers {wrong} of {len(answers.together)} prompts otherwise in a "
        f"batch than alone, and losses differ by {difference:.2g} of their size. {remedy}"
    )


def _count_not_greedy(asked: Asked, answers: Sequence[Generated]) -> int:
    # Of those that were made alone there are fewer.
    pairs = zip(asked.examples, answers, strict=False)
    agree = [
        _is_greedy(asked.language, prompt, answer) for (prompt, _), answer in pairs
    ]
    return agree.count(False)


def _is_greedy(language: LanguageModel, prompt: list[int], answer: Generated) -> bool:
    """Whether each token of an answer is the likeliest one, or as likely, without a cache."""
    # After the last token of an answer that ended any end token may come.
    choices = [[token] for token in answer.ids]
    if answer.ended:
        choices.append(language.encoder.end_ids)
    # One forward pass over the whole row answers for nearly every model.
    ids = [*prompt, *answer.ids]
    logits = _compute_logits(language, ids)
    whole_row = logits[len(prompt) - 1 :]
    for place, tokens in enumerate(choices):
        if _is_likeliest(language, whole_row[place], tokens):
            continue
        # Positions that stretch with the row: each token was chosen on a shorter one.
        beginning = ids[: len(prompt) + place]
        shorter = _compute_logits(language, beginning)
        if not _is_likeliest(language, shorter[-1], tokens):
            return False
    return True


def _compute_logits(language: LanguageModel, ids: list[int]) -> Any:
    """Logits of shape (tokens, vocabulary), of one row without a cache."""
    import torch

    with torch.inference_mode():
        row = torch.tensor([ids], device=language.device)
        return language.model(input_ids=row, use_cache=False).logits[0].float()


def _is_likeliest(language: LanguageModel, logits: Any, tokens: list[int]) -> bool:
    gap = float(logits.max() - logits[tokens].max())
    # Asked as a pass: a NaN is no tie.
    return gap <= _TIE[language.arithmetic]


def _measure_difference(answers: _Answers) -> float:
    """Return the largest difference of two losses, as a share of the loss."""
    shares: list[float] = []
    pairs = zip(answers.losses_together, answers.losses_alone, strict=True)
    for together, alone in pairs:
        scale = max(1.0, abs(alone))
        difference = abs(together - alone)
        shares.append(difference / scale)
    return max(shares)
