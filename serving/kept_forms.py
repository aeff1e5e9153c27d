"""Forms of answers that an engine made: the latest are kept, and a new one is made in its turn."""

import asyncio
from collections import OrderedDict

from serving.engines import Engine, Form

# A program sends the same schema again and again.
_MOST_KEPT = 32


class KeptForms:
    """The forms of one engine, the least recently used one first."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._kept: OrderedDict[str, Form] = OrderedDict()
        self._making = asyncio.Lock()

    async def of_json(self, schema: str) -> Form:
        """What holds answers to a JSON Schema; `Refusal` where the engine cannot hold to it."""
        # A schema that was sent before does not wait for one that takes long.
        if schema not in self._kept:
            await self._make(schema)
        self._kept.move_to_end(schema)
        return self._kept[schema]

    async def _make(self, schema: str) -> None:
        # One at a time: many large ones at once would take all the threads.
        async with self._making:
            # Somebody else may have sent the same one.
            if schema in self._kept:
                return
            form = await asyncio.to_thread(self._engine.json_form, schema)
            self._kept[schema] = form
            if len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)
