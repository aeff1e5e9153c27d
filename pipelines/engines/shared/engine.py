"""One base and the adapters on it, which come and go while others answer.

    attach ─▶ a number, and a stack beside the thread ─▶ exchanged between two steps ─▶ asked
    detach ─▶ its answers are cancelled ─▶ a stack without it, exchanged between two steps

Each release has an `Engine` of its own, by which its adapter and the base are asked.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from pipelines.engines import (
    Cancel,
    Deliver,
    Event,
    Failed,
    Finished,
    Form,
    GenerationRequest,
)
from pipelines.engines.json_form import JsonForms
from pipelines.engines.model_texts import ModelTexts
from pipelines.engines.plain_text import PlainText
from pipelines.engines.refusal import Refusal
from pipelines.engines.running_answer import RunningAnswer
from pipelines.engines.transformers import QUEUE_LENGTH, check_can
from pipelines.engines.worker import Worker
from pipelines.models.chat import ChatEncoder
from pipelines.values.dataset import Message
from pipelines.values.serving_spec import ServingSpec

if TYPE_CHECKING:
    from pipelines.engines.runners import Runner
    from pipelines.engines.shared.stack import Adapter, Stack


class Exchangeable(Protocol):
    """What computes by a stack of adapters, and can be given another one between two steps."""

    stack: "Stack"
    """What the next forward uses."""


class SharedEngine:
    """A base in memory, the adapters on it, and the thread that computes with all of them."""

    def __init__(
        self,
        encoder: ChatEncoder,
        context_tokens: int,
        places: Exchangeable,
        open_runner: "Callable[[threading.Event], Runner]",
    ) -> None:
        """`open_runner` is given what is set once the engine closes."""
        self.encoder = encoder
        self.context_tokens = context_tokens
        self._json_forms = JsonForms(encoder)
        self._places = places
        closing = threading.Event()
        self._runner = open_runner(closing)
        self._worker = Worker(self._runner, QUEUE_LENGTH, closing)
        # Whoever makes a stack from the present one.
        self._changing = threading.Lock()
        self._last_number = 0

    @property
    def is_ready(self) -> bool:
        """Whether its thread runs."""
        return self._worker.is_ready

    @property
    def stack(self) -> "Stack":
        """The adapters that it computes with."""
        return self._places.stack

    def attach(
        self, adapter: "Adapter", specs: Mapping[str, ServingSpec]
    ) -> "ReleaseEngine":
        """Compute with one more adapter from the next step on.

        `specs` say what answers under the adapter's name and under the base's.
        """
        with self._changing:
            self._last_number += 1
            number = self._last_number
            self._exchange(self._places.stack.with_adapter(number, adapter))
        return ReleaseEngine(self, number, specs)

    def detach(self, number: int) -> None:
        """Give an adapter's memory back. Its answers are over already, or cancelled."""
        with self._changing:
            self._exchange(self._places.stack.without(number))

    def json_form(self, schema: str) -> Form:
        """What holds answers to a JSON Schema; `Refusal` where they cannot be held to it."""
        return self._json_forms.compile(schema)

    def submit(self, answer: RunningAnswer) -> Cancel:
        """Queue an answer; the returned function cancels it."""
        check_can(self._runner, answer.request)
        return self._worker.submit(answer)

    def close(self) -> None:
        """Cancel what runs, fail what waits, and stop the thread."""
        self._worker.close()

    def _exchange(self, stack: "Stack") -> None:
        def exchange() -> None:
            self._places.stack = stack

        self._worker.between_steps(exchange)


class ReleaseEngine:
    """One release of a shared engine: its adapter, and the base beside it."""

    def __init__(
        self, shared: SharedEngine, number: int, specs: Mapping[str, ServingSpec]
    ) -> None:
        self.specs = specs
        self.context_tokens = shared.context_tokens
        self._shared = shared
        self._number = number
        self._texts = ModelTexts(shared.encoder, specs)
        self._lock = threading.Lock()
        self._is_closed = False
        self._open: set[RunningAnswer] = set()

    @property
    def is_ready(self) -> bool:
        """Whether requests are being answered."""
        return self._shared.is_ready and not self._is_closed

    def prompt_ids(self, messages: Sequence[Message], model: str) -> list[int]:
        """Token ids of a conversation with a model, as `ModelTexts` has them."""
        return self._texts.prompt_ids(messages, model)

    def plain_text(self, model: str) -> PlainText:
        """Text outside of conversations, as `ModelTexts` has it."""
        return self._texts.plain_text(model)

    def json_form(self, schema: str) -> Form:
        """What holds answers to a JSON Schema; `Refusal` where they cannot be held to it."""
        return self._shared.json_form(schema)

    def submit(self, request: GenerationRequest, deliver: Deliver) -> Cancel:
        """Queue a request; the returned function cancels it, queued or running.

        `Refusal` where the release is detached, or the engine does not take it.
        """
        is_tuned = self.specs[request.model].adapter_sha256 is not None
        adapter = self._number if is_tuned else None

        def note(event: Event) -> None:
            if isinstance(event, (Finished, Failed)):
                self._open.discard(answer)
            deliver(event)

        answer = RunningAnswer(request, note, self._shared.encoder, adapter)
        with self._lock:
            if self._is_closed:
                raise gone_error()
            self._open.add(answer)
        try:
            return self._shared.submit(answer)
        except BaseException:
            self._open.discard(answer)
            raise

    def close(self) -> None:
        """Cancel what runs, and give the adapter's memory back."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            still_open = tuple(self._open)
        for answer in still_open:
            answer.cancelled.set()
        self._shared.detach(self._number)


def gone_error() -> Refusal:
    """The release was detached from its process."""
    return Refusal(
        "This release is not in this process any more.",
        status=404,
        code="release_not_found",
    )
