"""Continuous batching: answers join and leave between two tokens.

    add ─▶ its prompt is read, a part in each step ─▶ one token in each step with all others ─▶ over

The text of a token is written while the next step is computed.

A row's slot is its place in the list. The last row moves into the place of one that leaves.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Generic

from pipelines.engines.batch_row import Held, Row
from pipelines.engines.row_model import Part, RowModel, SlotsT
from pipelines.engines.running_answer import FAULTS, RunningAnswer
from pipelines.models.chat import ChatEncoder

if TYPE_CHECKING:
    import torch

# Tokens of prompts between two steps: running answers wait for them.
_PROMPT_TOKENS_AT_ONCE = 128
# Tokens of a row that are guessed, where reading the weights is what takes time. Among more rows
# each token does.
_MOST_GUESSES, _FEW_ROWS = 4, 4
# A shorter beginning is computed sooner than it is copied.
_SHORTEST_SHARED = 8

Report = Callable[[RunningAnswer, Exception], None]


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
        self._rows: list[Row] = []
        # What each slot holds, also after its row has left.
        self._held: list[Held] = []
        # Rows whose text could not be written, and why.
        self._unwritable: list[tuple[Row, Exception]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def bytes_with(self, answer: RunningAnswer | None) -> int:
        """Memory for its rows, and for that one beside them, if all grow to their longest."""
        needs = [row.needs for row in self._rows]
        if answer is not None:
            row = Row(answer, [])
            needs.append(row.needs)
        if not needs:
            return 0
        return self._slots.bytes_for(len(needs), max(needs))

    def add(self, answer: RunningAnswer) -> None:
        """Have an answer take part from the next step on."""
        row = Row(answer, list(answer.request.prompt))
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
            self._held.append(Held())
        row.computed = self._copy_beginning(slot, row)
        self._held[slot] = Held.of(row)

    def advance(self, meanwhile: Callable[[], None]) -> None:
        """Read a part of the prompts that wait, and give every other row its next token.

        `meanwhile` is called while that is computed. It is to call `write`.
        """
        self._remove_finished()
        if self._rows:
            self._compute(meanwhile)
            self._remove_finished()
        if not self._rows and self._slots.shrink():
            self._held = []

    def write(self) -> None:
        """Deliver the text of tokens that were chosen."""
        for row in self._rows:
            try:
                row.answer.write()
            # It leaves with the next step: now a forward may be reading its slot.
            except FAULTS as fault:
                self._unwritable.append((row, fault))

    def end_all(self, end: Callable[[RunningAnswer], None]) -> None:
        """End every answer in that way, and forget it."""
        for row in self._rows:
            end(row.answer)
        self._rows = []

    def _reserve(self, parts: Sequence[Part] = ()) -> None:
        """Have room for every row as it is now, and for what is computed of it next."""
        lengths = [len(row.tokens) for row in self._rows]
        lengths += [part.end for part in parts]
        count = len(self._rows)
        try:
            is_new = self._slots.reserve(count, max(lengths))
        except FAULTS:
            # Of what rows left behind, some may be lost.
            self._held = [Held.of(row) for row in self._rows]
            raise
        if is_new:
            del self._held[self._slots.count :]
            for held in self._held:
                del held.tokens[self._slots.positions :]

    def _copy_beginning(self, slot: int, row: Row) -> int:
        """Take over what another slot has computed of the same prompt; how many tokens.

        What logits are needed of is left: the last token, or all that predict a scored one.
        """
        lengths = [held.count_shared(row) for held in self._held]
        best = max(range(len(lengths)), key=lambda index: lengths[index])
        length = min(lengths[best], row.first_needed)
        if length < _SHORTEST_SHARED:
            return 0
        if best != slot:
            self._slots.copy(best, slot, length)
        return length

    def _compute(self, meanwhile: Callable[[], None]) -> None:
        parts = self._plan()
        try:
            self._reserve(parts)
        except FAULTS as error:
            for row in tuple(self._rows):
                self._fail(row, error)
            return
        computed: Sequence[torch.Tensor | Exception]
        try:
            computed = self._model.compute(self._slots, parts, meanwhile)
        except FAULTS:
            # One of them may be to blame, and the others are not.
            computed = self._compute_apart(parts)
        self._take(parts, computed)

    def _plan(self) -> list[Part]:
        """What each row computes now. Of prompts up to so many tokens, those of the first rows."""
        left = _PROMPT_TOKENS_AT_ONCE
        guesses = self._guesses_of_each()
        parts = []
        for slot, row in enumerate(self._rows):
            if row.is_reading:
                part = row.next_prompt_part(slot, left)
                left -= len(part.tokens)
            else:
                part = row.next_step(slot, guesses)
            parts.append(part)
        return parts

    def _guesses_of_each(self) -> int:
        """How many tokens of each row are guessed beside its last one."""
        are_few = len(self._rows) <= _FEW_ROWS
        if are_few and self._model.mixes_lengths:
            return _MOST_GUESSES
        return 0

    def _compute_apart(self, parts: Sequence[Part]) -> list["torch.Tensor | Exception"]:
        """The same, one row after the other: its logits, or what it failed with."""
        results = []
        # The last one first: a forward may write into those before it, from their `start` on, and
        # what they compute after it stands there then.
        for part in reversed(parts):
            computed = self._compute_alone(part, parts)
            results.append(computed)
        results.reverse()
        return results

    def _compute_alone(
        self, part: Part, parts: Sequence[Part]
    ) -> "torch.Tensor | Exception":
        import torch

        # It waits as the others do.
        if not part.tokens:
            return torch.empty(0)
        alone = [replace(other, tokens=()) for other in parts]
        alone[part.slot] = part
        try:
            logits = self._model.compute(self._slots, alone, self.write)
        except FAULTS as error:
            return error
        # A copy: the next forward writes into the same memory.
        return logits[part.slot].clone()

    def _take(
        self, parts: Sequence[Part], computed: Sequence["torch.Tensor | Exception"]
    ) -> None:
        failed: list[tuple[Row, Exception]] = []
        rows = zip(tuple(self._rows), parts, computed, strict=True)
        for row, part, logits in rows:
            if isinstance(logits, Exception):
                failed.append((row, logits))
                continue
            if not part.tokens:
                continue
            try:
                row.take(part, logits, self._encoder)
            except FAULTS as fault:
                failed.append((row, fault))
            held = self._held[part.slot].tokens
            held[part.start :] = row.tokens[part.start : row.computed]
        # Later, since other rows move into the places of those that leave.
        for row, reason in failed:
            self._fail(row, reason)

    def _remove_finished(self) -> None:
        for row, fault in self._unwritable:
            # It may have failed otherwise meanwhile.
            if row in self._rows:
                self._fail(row, fault)
        self._unwritable = []
        for row in tuple(self._rows):
            if row.answer.is_over:
                self._finish(row)

    def _finish(self, row: Row) -> None:
        answer = row.answer
        if not row.is_checked:
            self._clear(row)
        self._remove(row)
        try:
            answer.finish()
        # Its last text could not be written.
        except FAULTS as fault:
            self._report(answer, fault)
            answer.fail()

    def _fail(self, row: Row, error: Exception) -> None:
        answer = row.answer
        self._clear(row)
        self._remove(row)
        self._report(answer, error)
        answer.fail()

    def _clear(self, row: Row) -> None:
        slot = self._rows.index(row)
        self._clear_slot(slot)

    def _clear_slot(self, slot: int) -> None:
        """Leave nothing of a row there: no mask would hide a NaN from a later one."""
        self._slots.clear(slot)
        self._held[slot] = Held()

    def _remove(self, row: Row) -> None:
        slot = self._rows.index(row)
        last = len(self._rows) - 1
        moved = self._rows.pop()
        if slot == last:
            return
        self._slots.copy(last, slot, moved.computed)
        self._rows[slot] = moved
        self._held[slot] = self._held[last].copy()
        if not moved.is_checked:
            self._clear_slot(last)
