"""Continuous batching: answers join and leave between two tokens.

    add ─▶ its prompt is read, a part at a time ─▶ one token in each step with all others ─▶ over

A row's slot is its place in the list. The last row moves into the place of one that leaves.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic

from pipelines.models.chat import ChatEncoder
from serving.engines import TokenScore
from serving.engines.row_model import RowModel, SlotsT
from serving.engines.running_answer import RunningAnswer
from serving.engines.slots import PromptPlace
from serving.engines.token_choice import score_token

if TYPE_CHECKING:
    import torch

# Tokens of prompts between two steps: running answers wait for them.
_PROMPT_TOKENS_AT_ONCE = 128
# A shorter beginning is computed sooner than it is copied.
_SHORTEST_SHARED = 8
FAULTS = (RuntimeError, ValueError, IndexError)
"""What torch raises, out of memory included; the process works on after it."""

Report = Callable[[RunningAnswer, Exception], None]


@dataclass(eq=False)
class _Row:
    """An answer in its slot. Not frozen: it grows with each token."""

    answer: RunningAnswer
    # Of the prompt, and then of the answer. All but the last are in the slot once it is read.
    tokens: list[int]
    # How many of them are in the slot.
    computed: int = 0
    prompt_scores: list[TokenScore] = field(default_factory=list)

    @property
    def needs(self) -> int:
        """Positions that it may come to have."""
        request = self.answer.request
        return len(request.prompt) + request.max_tokens

    @property
    def is_reading(self) -> bool:
        """Whether a part of its prompt is not computed yet."""
        request = self.answer.request
        return self.computed < len(request.prompt)


class Batch(Generic[SlotsT]):
    """Answers of the same weights, which share each step."""

    def __init__(
        self,
        model: RowModel[SlotsT],
        slots: SlotsT,
        encoder: ChatEncoder,
        report: Report,
    ) -> None:
        self._model = model
        self._slots = slots
        self._encoder = encoder
        self._report = report
        self._rows: list[_Row] = []
        # Tokens whose keys and values each slot holds, also after its row has left.
        self._held: list[list[int]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def bytes_with(self, answer: RunningAnswer | None) -> int:
        """Memory for its rows, and for that one beside them, if all grow to their longest."""
        needs = [row.needs for row in self._rows]
        if answer is not None:
            row = _Row(answer, [])
            needs.append(row.needs)
        if not needs:
            return 0
        return self._slots.bytes_for(len(needs), max(needs))

    def add(self, answer: RunningAnswer) -> None:
        """Have an answer take part from the next step on."""
        row = _Row(answer, list(answer.request.prompt))
        self._rows.append(row)
        try:
            self._reserve()
        # Memory ran out: what the others have is as it was.
        except FAULTS as error:
            self._rows.pop()
            self._report(answer, error)
            answer.fail()
            return
        slot = len(self._rows) - 1
        if len(self._held) == slot:
            self._held.append([])
        row.computed = self._copy_beginning(slot, row)
        self._held[slot] = row.tokens[: row.computed]

    def advance(self) -> None:
        """Read a part of the prompts that wait, then give every other row its next token."""
        self._remove_finished()
        self._read_prompts()
        self._remove_finished()
        self._step()
        self._remove_finished()
        if not self._rows and self._slots.shrink():
            self._held = []

    def end_all(self, end: Callable[[RunningAnswer], None]) -> None:
        """End every answer in that way, and forget it."""
        for row in self._rows:
            end(row.answer)
        self._rows = []

    def _reserve(self) -> None:
        """Have room for every row as it is now, its next token included."""
        lengths = [len(row.tokens) for row in self._rows]
        count = len(lengths)
        is_new = self._slots.reserve(count, max(lengths))
        if is_new:
            positions = self._slots.positions
            kept = self._held[: self._slots.count]
            self._held = [tokens[:positions] for tokens in kept]

    def _copy_beginning(self, slot: int, row: _Row) -> int:
        """Take over what another slot has computed of the same prompt; how many tokens.

        The last token is left: its logits are needed.
        """
        # Every position's logits are needed to score a prompt.
        if row.answer.request.scores_prompt:
            return 0
        lengths = [_count_shared(held, row.tokens) for held in self._held]
        best = max(range(len(lengths)), key=lambda index: lengths[index])
        length = min(lengths[best], len(row.tokens) - 1)
        if length < _SHORTEST_SHARED:
            return 0
        if best != slot:
            self._slots.copy(best, slot, length)
        return length

    def _read_prompts(self) -> None:
        """Compute up to so many tokens of prompts, those that came first first."""
        left = _PROMPT_TOKENS_AT_ONCE
        waiting = [row for row in self._rows if row.is_reading]
        for row in waiting:
            if left <= 0:
                return
            wanted = row.computed + left
            end = min(len(row.tokens), wanted)
            left = wanted - end
            try:
                self._read_part(row, end)
            except FAULTS as error:
                self._fail(row, error)

    def _read_part(self, row: _Row, end: int) -> None:
        slot = self._rows.index(row)
        request = row.answer.request
        start = row.computed
        keep = end - start if request.scores_prompt else 1
        logits = self._model.read_prompt(
            self._slots,
            PromptPlace(slot, start, end),
            row.tokens[start:end],
            keep,
        )
        row.computed = end
        self._held[slot] = row.tokens[:end]
        if request.scores_prompt:
            self._score_prompt(row, logits, start)
        if row.is_reading:
            return
        if request.scores_prompt:
            scores = row.prompt_scores
            row.answer.give_prompt_scores(scores)
        last = logits[-1]
        self._take(row, last)

    def _score_prompt(self, row: _Row, logits: "torch.Tensor", start: int) -> None:
        """Score the tokens that the logits predict; those begin at position `start`."""
        if start == 0:
            first = row.tokens[0]
            text = self._encoder.show([first])
            row.prompt_scores.append(TokenScore(first, text, None))
        top_count = row.answer.request.top_logprobs or 0
        predicted = row.tokens[start + 1 : start + 1 + len(logits)]
        for place, token in enumerate(predicted):
            score = score_token(
                logits[place],
                token,
                top_count,
                self._encoder,
            )
            row.prompt_scores.append(score)

    def _step(self) -> None:
        """One more token for every row whose prompt is read."""
        places = [place for place, row in enumerate(self._rows) if not row.is_reading]
        if not places:
            return
        # A row that still reads its prompt takes part where it stands between others. What it
        # writes is overwritten when the rest of its prompt is read.
        rows = self._rows[: places[-1] + 1]
        lengths = [row.computed for row in rows]
        tokens = [row.tokens[row.computed] for row in rows]
        try:
            self._reserve()
            logits = self._model.step(self._slots, tokens, lengths)
        except FAULTS as error:
            for row in tuple(self._rows):
                self._fail(row, error)
            return
        failed: list[tuple[_Row, Exception]] = []
        for place in places:
            row = rows[place]
            row.computed += 1
            self._held[place].append(tokens[place])
            try:
                self._take(row, logits[place])
            except FAULTS as fault:
                failed.append((row, fault))
        # Later, since other rows move into the places of those that leave.
        for row, reason in failed:
            self._fail(row, reason)

    def _take(self, row: _Row, logits: "torch.Tensor") -> None:
        answer = row.answer
        if answer.is_over:
            return
        token = answer.take(logits)
        row.tokens.append(token)

    def _remove_finished(self) -> None:
        for row in tuple(self._rows):
            answer = row.answer
            if answer.is_over:
                # Nobody saw yet whether its prompt gives finite numbers.
                if row.is_reading:
                    self._clear(row)
                self._remove(row)
                answer.finish()

    def _fail(self, row: _Row, error: Exception) -> None:
        answer = row.answer
        self._clear(row)
        self._remove(row)
        self._report(answer, error)
        answer.fail()

    def _clear(self, row: _Row) -> None:
        """Leave nothing of a row in its slot: no mask would hide a NaN from a later one."""
        slot = self._rows.index(row)
        self._slots.clear(slot)
        self._held[slot] = []

    def _remove(self, row: _Row) -> None:
        slot = self._rows.index(row)
        last = len(self._rows) - 1
        moved = self._rows.pop()
        if slot == last:
            return
        self._slots.copy(last, slot, moved.computed)
        self._rows[slot] = moved
        self._held[slot] = list(self._held[last])


def _count_shared(held: Sequence[int], tokens: Sequence[int]) -> int:
    shared = 0
    for one, other in zip(held, tokens, strict=False):
        if one != other:
            break
        shared += 1
    return shared
