"""What Assay makes of a base model: shown to people, and checked before anything is trained.

Some rows are asked in one batch, and each alone. Answers and losses of both ways have to agree.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from core.errors import UnusableBaseModel
from core.value import Value
from pipelines.models.chat import Example
from pipelines.models.language_model import (
    Generated,
    LanguageModel,
    generate,
    measure_completion_losses,
)
from pipelines.values.params import GenerationParams

SAMPLE = 12
"""Rows that are asked."""
MOST_NEW_TOKENS = 32
# Losses of a batch and alone, relative: other shapes of matrices round in another order.
_LOSS_TOLERANCE = {"float32": 1e-4, "bfloat16": 0.05}
# Two next tokens as likely as this, in nats, are a tie, which rounding decides.
_TIE = {"float32": 1e-3, "bfloat16": 0.1}
# Difference of logits, as a share of the largest one.
_LOOKS_AHEAD = 1e-5


class Conformance(Value):
    """What was seen of a base model with its encoder."""

    base_id: str
    template_notes: tuple[str, ...]
    example: str
    end_tokens: tuple[str, ...]
    ends_are_written: bool
    bos_tokens: int
    context_tokens: int
    batching: str
    asked: int
    equal_answers: int
    largest_loss_difference: float
    ended: int
    new_tokens: int

    @property
    def text(self) -> str:
        """Give a line for each thing, for people."""
        lines = [
            ("prompt", self._prompt),
            ("ends", self._ends),
            ("context", f"{self.context_tokens:,} tokens"),
            ("batches", self._batches),
            ("answers", self._answers),
        ]
        return "\n".join(f"  {name:9} {text}" for name, text in lines)

    @property
    def _prompt(self) -> str:
        shown = self.example.replace("\n", "⏎")
        if len(shown) > 300:
            shown = f"{shown[:150]} … {shown[-150:]}"
        notes = "".join(f"; {note}" for note in self.template_notes)
        beginning = f"beginning-of-sequence tokens in front: {self.bos_tokens}"
        return f"{shown}\n            {beginning}{notes}"

    @property
    def _ends(self) -> str:
        names = ", ".join(self.end_tokens)
        if self.ends_are_written:
            return f"{names}; the first one is the template's"
        return f"{names}; the first one is put behind each answer in training"

    @property
    def _batches(self) -> str:
        losses = "losses equal to those alone"
        if self.largest_loss_difference:
            losses = f"losses within {self.largest_loss_difference:.1g} of those alone"
        answers = f"{self.equal_answers} of {self.asked} answers as alone"
        return f"{self.batching}; {answers}, {losses}"

    @property
    def _answers(self) -> str:
        text = f"{self.ended} of {self.asked} end by themselves in {self.new_tokens} tokens"
        if self.ended:
            return text
        return (
            f"{text}: the base never ends an answer, and its scores are those of texts "
            "that the token limit cut"
        )


@dataclass(frozen=True)
class _Answers:
    """Answers and losses of the same examples, each in two ways."""

    together: tuple[Generated, ...]
    alone: tuple[Generated, ...]
    losses_together: tuple[float, ...]
    losses_alone: tuple[float, ...]


def check_conformance(
    base_id: str,
    notes: tuple[str, ...],
    language: LanguageModel,
    examples: Sequence[Example],
    params: GenerationParams,
) -> Conformance:
    """Ask a dozen of the examples.

    `UnusableBaseModel` where the model looks ahead, or where batches change the outcome.
    """
    _check_causality(base_id, language, examples[0])
    room = language.context_tokens - max(len(prompt) for prompt, _ in examples)
    new_tokens = max(1, min(params.max_new_tokens, MOST_NEW_TOKENS, room))
    answers = _ask(language, examples, new_tokens, params.batch_size)
    _check_cache(base_id, language, examples, answers.alone)
    equal = [
        _is_same(language, prompt, one, other)
        for (prompt, _), one, other in zip(
            examples, answers.together, answers.alone, strict=True
        )
    ]
    difference = _measure_difference(answers)
    _check_batches(base_id, language, equal, difference)
    encoder = language.encoder
    prompt, answer = examples[0]
    ends = [encoder.end_id, *(end for end in encoder.end_ids if end != encoder.end_id)]
    return Conformance(
        base_id=base_id,
        template_notes=notes,
        example=encoder.show([*prompt, *answer]),
        end_tokens=tuple(encoder.show([end]) for end in ends),
        ends_are_written=encoder.ends.is_written,
        bos_tokens=_count_leading(prompt, encoder.tokenizer.bos_token_id),
        context_tokens=language.context_tokens,
        batching=language.batching.value,
        asked=len(examples),
        equal_answers=sum(
            one == other
            for one, other in zip(answers.together, answers.alone, strict=True)
        ),
        largest_loss_difference=difference,
        ended=sum(answer.ended for answer in answers.alone),
        new_tokens=new_tokens,
    )


def _check_causality(base_id: str, language: LanguageModel, example: Example) -> None:
    """Refuse an encoder: what it says of a token depends on later ones."""
    import torch

    ids = [*example[0], *example[1]]
    # Only the last token differs: what is said of those before it has to be the same.
    other = [*ids[:-1], ids[0]]
    rows = torch.tensor([ids, other], device=language.device)
    with torch.inference_mode():
        logits = language.model(input_ids=rows).logits[:, :-1].float()
    difference = float((logits[0] - logits[1]).abs().max())
    # Both rows have one shape, so that a model that does not look ahead rounds alike.
    # Asked as a pass: a NaN is no small difference.
    if difference <= _LOOKS_AHEAD * max(1.0, float(logits[0].abs().max())):
        return
    raise UnusableBaseModel(
        f"{base_id} looks ahead, which does not continue a text: another last token changes "
        f"what it says of those before it by {difference:.2g}. Give a decoder."
    )


def _count_leading(ids: list[int], token: int | None) -> int:
    """Count how often the ids begin with a token."""
    count = 0
    while ids[count : count + 1] == [token]:
        count += 1
    return count


def _check_cache(
    base_id: str,
    language: LanguageModel,
    examples: Sequence[Example],
    answers: Sequence[Generated],
) -> None:
    """Refuse a model whose cache changes what it says: its scores would be no model's.

    Losses are measured on whole rows, without the cache that an answer is made with.
    """
    pairs = zip(examples, answers, strict=True)
    agrees = [_is_greedy(language, prompt, answer) for (prompt, _), answer in pairs]
    if not all(agrees):
        raise UnusableBaseModel(
            f"{base_id} gives {agrees.count(False)} of {len(agrees)} answers that it does not give "
            "without its key-value cache, which is a fault of its code in transformers. "
            "Take another version of transformers, or another model."
        )


def _is_greedy(language: LanguageModel, prompt: list[int], answer: Generated) -> bool:
    """Whether each token of an answer is the likeliest one, or as likely, on the whole row."""
    import torch

    ids = [*prompt, *answer.ids]
    with torch.inference_mode():
        row = torch.tensor([ids], device=language.device)
        logits = language.model(input_ids=row).logits[0, len(prompt) - 1 :].float()
    best = logits.max(dim=-1).values
    # After the last token of an answer that ended any end token may come.
    choices = [[token] for token in answer.ids]
    if answer.ended:
        choices.append(language.encoder.end_ids)
    gaps = [
        float(best[place] - logits[place, tokens].max())
        for place, tokens in enumerate(choices)
    ]
    return all(gap <= _TIE[language.precision] for gap in gaps)


def _ask(
    language: LanguageModel,
    examples: Sequence[Example],
    new_tokens: int,
    batch_size: int,
) -> _Answers:
    prompts = [prompt for prompt, _ in examples]
    together = generate(
        language, prompts, max_new_tokens=new_tokens, batch_size=batch_size
    )
    alone = [
        generate(language, [prompt], max_new_tokens=new_tokens, batch_size=1)[0]
        for prompt in prompts
    ]
    return _Answers(
        together=together,
        alone=tuple(alone),
        losses_together=measure_completion_losses(
            language, examples, batch_size=batch_size
        ),
        losses_alone=tuple(_measure_alone(language, example) for example in examples),
    )


def _measure_alone(language: LanguageModel, example: Example) -> float:
    (loss,) = measure_completion_losses(language, [example], batch_size=1)
    return loss


def _measure_difference(answers: _Answers) -> float:
    """Return the largest difference of two losses, as a share of the loss; NaN is one."""
    pairs = zip(answers.losses_together, answers.losses_alone, strict=True)
    return max(abs(one - other) / max(1.0, abs(other)) for one, other in pairs)


def _is_same(
    language: LanguageModel, prompt: list[int], one: Generated, other: Generated
) -> bool:
    """Whether two answers are equal, or part where two tokens are equally likely."""
    if one == other:
        return True
    shared = 0
    for token, other_token in zip(one.ids, other.ids, strict=False):
        if token != other_token:
            break
        shared += 1
    context = [*prompt, *one.ids[:shared]]
    gap = _measure_next(language, context, one, shared) - _measure_next(
        language, context, other, shared
    )
    return abs(gap) <= _TIE[language.precision]


def _measure_next(
    language: LanguageModel, context: list[int], answer: Generated, place: int
) -> float:
    """Loss of an answer's token at a place, or of the likeliest end where it ends there."""
    here = answer.ids[place : place + 1]
    tokens = list(here) or language.encoder.end_ids
    return min(_measure_alone(language, (context, [token])) for token in tokens)


def _check_batches(
    base_id: str, language: LanguageModel, equal: list[bool], difference: float
) -> None:
    tolerance = _LOSS_TOLERANCE[language.precision]
    # Asked as a pass: a NaN is within no tolerance.
    if all(equal) and difference <= tolerance:
        return
    raise UnusableBaseModel(
        f"{base_id} answers {equal.count(False)} of {len(equal)} prompts otherwise in a batch "
        f"than alone, and losses differ by {difference:.2g} of their size. "
        "Set generation.batch_size=1 for it."
    )
