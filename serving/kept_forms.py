"""Forms of answers that an engine made: the latest are kept, and a new one is made in its turn.

    known ─▶ at once      cheap ─▶ behind other cheap ones      costly ─▶ behind other costly ones

What is costly may take seconds, in a process of its own, so that few of them may wait.
"""

import asyncio
from collections import OrderedDict
from typing import Protocol

from pipelines.engines import Form
from pipelines.engines.grammar_trial import needs_trial
from pipelines.engines.refusal import overloaded_error

# A program sends the same schema again and again.
_MOST_KEPT = 32
# Different ones, of which the last may wait for a minute or two.
_MOST_COSTLY = 8


class MakesForms(Protocol):
    """An engine, as far as forms are concerned."""

    def json_form(self, schema: str) -> Form:
        """What holds answers to a JSON Schema; `Refusal` where they cannot be held to it."""
        ...


class KeptForms:
    """The forms of one engine, the least recently used one first."""

    def __init__(self, engine: MakesForms) -> None:
        self._engine = engine
        self._kept: OrderedDict[str, Form] = OrderedDict()
        # One at a time of each kind: many large ones at once would take all the threads.
        self._cheap = _Line()
        self._costly = _Line()

    async def of_json(self, schema: str) -> Form:
        """What holds answers to a JSON Schema.

        `Refusal` where the engine cannot hold to it, or where too many costly ones wait.
        """
        form = self._kept.get(schema)
        if form is not None:
            self._kept.move_to_end(schema)
            return form
        # Shielded: whoever leaves leaves it to the others that sent the same one.
        return await asyncio.shield(self._making(schema))

    def _making(self, schema: str) -> "asyncio.Task[Form]":
        """What makes it, which may have begun for somebody else."""
        is_costly = needs_trial(schema)
        line = self._costly if is_costly else self._cheap
        making = line.tasks.get(schema)
        if making is not None:
            return making
        if is_costly and len(line.tasks) >= _MOST_COSTLY:
            raise overloaded_error()
        making = asyncio.create_task(self._make(schema, line))
        line.tasks[schema] = making
        making.add_done_callback(lambda made: line.leave(schema, made))
        return making

    async def _make(self, schema: str, line: "_Line") -> Form:
        async with line.turn:
            form = await asyncio.to_thread(self._engine.json_form, schema)
        self._kept[schema] = form
        if len(self._kept) > _MOST_KEPT:
            self._kept.popitem(last=False)
        return form


class _Line:
    """Forms that are made one after the other, by their schemas."""

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self.tasks: dict[str, asyncio.Task[Form]] = {}

    def leave(self, schema: str, made: "asyncio.Task[Form]") -> None:
        del self.tasks[schema]
        # Asked for: everybody who waited for it may have left, and Python would log that.
        if not made.cancelled():
            made.exception()
