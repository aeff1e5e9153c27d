"""How the answers of one model are computed: many at once, or one after the other.

Together     rows in slots share each step: models whose rows can be batched without padding
OneByOne     transformers' own `generate` for one answer: all other models
"""

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from pipelines.engines.batch import Batch, Report
from pipelines.engines.row_model import Rows, SlotsT
from pipelines.engines.running_answer import FAULTS, RunningAnswer
from pipelines.models.chat import ChatEncoder
from pipelines.models.language_model import LanguageModel

if TYPE_CHECKING:
    import torch

# Keys and values of all rows together.
_MOST_BYTES = 1 << 30


class Runner(Protocol):
    """Answers on their way. The engine's thread alone calls it, in torch's inference mode."""

    @property
    def is_idle(self) -> bool:
        """Whether nothing is to be computed."""
        ...

    @property
    def scores_prompts(self) -> bool:
        """Whether it can give the probabilities of a prompt's tokens."""
        ...

    def has_place(self) -> bool:
        """Whether one more answer may begin."""
        ...

    def has_memory_for(self, answer: RunningAnswer) -> bool:
        """Whether it fits beside the others, all grown to their longest."""
        ...

    def add(self, answer: RunningAnswer) -> None:
        """Begin an answer."""
        ...

    def advance(self) -> None:
        """Compute the next token of each, or one whole answer."""
        ...

    def end_all(self, end: Callable[[RunningAnswer], None]) -> None:
        """End all answers in that way."""
        ...


class Together:
    """Up to `rows` answers at once.

    Where there is a switch, those with the adapter and those without take turns.
    """

    scores_prompts = True

    def __init__(
        self,
        encoder: ChatEncoder,
        computed_by: Rows[SlotsT],
        report: Report,
        rows: int,
    ) -> None:
        self._switch = computed_by.switch
        self._rows = rows
        model, first = computed_by.model, computed_by.slots
        # By whether the adapter is on.
        self._batches = {True: Batch(model, first, encoder, report)}
        if self._switch is not None:
            second = first.like()
            self._batches[False] = Batch(model, second, encoder, report)

    @property
    def is_idle(self) -> bool:
        """Whether no answer is on its way."""
        return self._count == 0

    @property
    def _count(self) -> int:
        batches = self._batches.values()
        return sum(len(batch) for batch in batches)

    def has_place(self) -> bool:
        """Whether fewer answers run than may."""
        count = self._count
        return count < self._rows

    def has_memory_for(self, answer: RunningAnswer) -> bool:
        """Whether all rows could grow to their longest; one alone always may."""
        if self.is_idle:
            return True
        total = 0
        own = self._batch_of(answer)
        batches = self._batches.values()
        for batch in batches:
            added = answer if batch is own else None
            total += batch.bytes_with(added)
        return total <= _MOST_BYTES

    def add(self, answer: RunningAnswer) -> None:
        """Begin an answer with its adapter, or with the base alone."""
        batch = self._batch_of(answer)
        batch.add(answer)

    def advance(self) -> None:
        """Give every answer its next token."""
        batches = self._batches.items()
        for with_adapter, batch in batches:
            is_busy = len(batch) > 0
            if is_busy:
                if self._switch is not None:
                    self._switch.turn(on=with_adapter)
                batch.advance(self._write)

    def end_all(self, end: Callable[[RunningAnswer], None]) -> None:
        """End all answers in that way."""
        batches = self._batches.values()
        for batch in batches:
            batch.end_all(end)

    def _batch_of(self, answer: RunningAnswer) -> Batch[Any]:
        takes_turns = self._switch is not None
        is_plain = takes_turns and answer.adapter is None
        return self._batches[not is_plain]

    def _write(self) -> None:
        """Deliver what is chosen of every answer, also of those whose turn is not now."""
        batches = self._batches.values()
        for batch in batches:
            batch.write()


class OneByOne:
    """One answer after the other, by transformers' own `generate`."""

    scores_prompts = False

    def __init__(
        self,
        language: LanguageModel,
        turn_to: Callable[[int | None], None],
        report: Report,
        closing: threading.Event,
    ) -> None:
        """`turn_to` has the model compute with an adapter, or with the base alone."""
        self._language = language
        self._closing = closing
        self._turn_to = turn_to
        self._report = report
        self._answer: RunningAnswer | None = None

    @property
    def is_idle(self) -> bool:
        """Whether no answer waits to be generated."""
        return self._answer is None

    def has_place(self) -> bool:
        """Whether no answer waits to be generated."""
        return self.is_idle

    def has_memory_for(self, _: RunningAnswer) -> bool:
        """One answer always fits."""
        return True

    def add(self, answer: RunningAnswer) -> None:
        """Have it be the one that `advance` generates."""
        self._turn_to(answer.adapter)
        self._answer = answer

    def advance(self) -> None:
        """Generate the answer to its end."""
        answer = self._answer
        if answer is None:
            return
        try:
            self._generate(answer)
            answer.finish()
        except FAULTS as error:
            self._report(answer, error)
            answer.fail()
        self._answer = None

    def end_all(self, end: Callable[[RunningAnswer], None]) -> None:
        """End the answer, if there is one."""
        if self._answer is not None:
            end(self._answer)

    def _generate(self, answer: RunningAnswer) -> None:
        import torch
        from transformers import LogitsProcessorList, StoppingCriteriaList

        request = answer.request
        if answer.is_over:
            return
        steering = _Steering(answer, self._closing)
        # One row: the shape is (1, tokens of the prompt).
        prompt = torch.tensor([request.prompt], device=self._language.device)
        self._language.model.generate(
            input_ids=prompt,
            attention_mask=torch.ones_like(prompt),
            generation_config=_greedy(request.max_tokens, self._language),
            logits_processor=LogitsProcessorList([steering.choose]),
            stopping_criteria=StoppingCriteriaList([steering.should_stop]),
        )


class _Steering:
    """Has `generate` take the tokens that an answer chooses, and stop when it is over."""

    def __init__(self, answer: RunningAnswer, closing: threading.Event) -> None:
        self._answer = answer
        self._closing = closing

    def choose(self, _: "torch.Tensor", scores: "torch.Tensor") -> "torch.Tensor":
        """Logits under which the chosen token is the only possible one, as `scores` is shaped."""
        import torch

        token = self._answer.take(scores[0])
        self._answer.write()
        only = torch.full_like(scores, -torch.inf)
        only[0, token] = 0
        return only

    def should_stop(self, ids: "torch.Tensor", _: Any, **__: Any) -> "torch.Tensor":
        """Whether nobody wants the next token: one boolean for each row, shape (rows,)."""
        import torch

        if self._closing.is_set():
            self._answer.cancelled.set()
        rows = ids.shape[0]
        return torch.full((rows,), self._answer.is_over, device=ids.device)


def _greedy(max_tokens: int, language: LanguageModel) -> Any:
    """As `pipelines.models.language_model.generate`: what is served is what was scored."""
    from transformers import GenerationConfig

    return GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=False,
        max_new_tokens=max_tokens,
        eos_token_id=language.encoder.end_ids,
        pad_token_id=language.encoder.pad_id,
    )
