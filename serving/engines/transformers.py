"""The reference engine: transformers on a thread of its own, many answers at once.

    submit ─▶ queue ─▶ runner: a place and memory ─▶ one token of each answer at a time ─▶ Finished

transformers has a continuous batching of its own. It draws all samples of a process from one
generator, knows no stop strings and no adapter by request, so that its answers would depend on
their neighbours: the runners here keep rows apart.
"""

import contextlib
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipelines.models.language_model import LanguageModel
from pipelines.values.dataset import Message
from pipelines.values.serving_spec import ServingSpec
from serving.engines import Cancel, Deliver, Form, GenerationRequest
from serving.engines.adapter_switch import AdapterSwitch
from serving.engines.json_form import JsonForms
from serving.engines.model_texts import ModelTexts
from serving.engines.plain_text import PlainText
from serving.engines.row_model import Rows
from serving.engines.running_answer import RunningAnswer
from serving.log import say
from serving.refusal import Refusal, not_ready_error, overloaded_error

if TYPE_CHECKING:
    from serving.engines.runners import Runner

ROWS = 16
"""Answers at once. A longer step would make each of them slower than a person reads."""
# A longer queue only hides that clients wait too long.
QUEUE_LENGTH = 32
# For a step that is being computed when the engine closes.
_SECONDS_TO_STOP = 30.0


class TransformersEngine:
    """One base in memory, and one adapter on it that is switched off for the base's own name."""

    def __init__(
        self,
        language: LanguageModel,
        specs: Mapping[str, ServingSpec],
        queue_length: int = QUEUE_LENGTH,
        rows: int = ROWS,
        compiled: Rows[Any] | None = None,
    ) -> None:
        """`compiled` computes rows instead of the loaded weights, which are not needed then."""
        self.specs = specs
        self.context_tokens = language.context_tokens
        self._language = language
        self._texts = ModelTexts(language.encoder, specs)
        self._json_forms = JsonForms(language.encoder)
        # None wakes the worker so that it sees that the engine is closing.
        self._waiting: queue.Queue[RunningAnswer | None] = queue.Queue(queue_length)
        # Taken from the queue, and too long to begin beside those that run.
        self._first: RunningAnswer | None = None
        self._closing = threading.Event()
        self._has_adapter = has_adapter(language, specs)
        self._runner = self._open_runner(rows, compiled)
        self._worker = threading.Thread(target=self._work, name="engine", daemon=True)
        self._worker.start()

    @property
    def is_ready(self) -> bool:
        """Whether the worker runs and takes requests."""
        if self._closing.is_set():
            return False
        return self._worker.is_alive()

    def prompt_ids(self, messages: Sequence[Message], model: str) -> list[int]:
        """Token ids of a conversation with a model, as `ModelTexts` has them."""
        return self._texts.prompt_ids(messages, model)

    def plain_text(self, model: str) -> PlainText:
        """Text outside of conversations, as `ModelTexts` has it."""
        return self._texts.plain_text(model)

    def json_form(self, schema: str) -> Form:
        """What holds answers to a JSON Schema; `Refusal` where they cannot be held to it."""
        return self._json_forms.compile(schema)

    def submit(self, request: GenerationRequest, deliver: Deliver) -> Cancel:
        """Queue a request; the returned function cancels it, queued or running.

        `Refusal` where the engine has stopped, its queue is full, or it lacks what is asked for.
        """
        self._check_can(request)
        if not self.is_ready:
            raise not_ready_error()
        answer = RunningAnswer(request, deliver, self._language.encoder)
        try:
            self._waiting.put_nowait(answer)
        except queue.Full:
            raise overloaded_error() from None
        # The worker may have ended between the check and the put.
        if not self.is_ready:
            self._fail_waiting()
        return answer.cancelled.set

    def close(self) -> None:
        """Cancel what runs, fail what waits, and stop the thread."""
        self._closing.set()
        # A full queue wakes the worker as well.
        with contextlib.suppress(queue.Full):
            self._waiting.put_nowait(None)
        self._worker.join(_SECONDS_TO_STOP)

    def _open_runner(self, rows: int, compiled: Rows[Any] | None) -> "Runner":
        # Here, with torch: importing this module imports neither.
        from serving.engines.runners import OneByOne, Together
        from serving.engines.slot_model import open_slots

        language = self._language
        encoder = language.encoder
        if compiled is not None:
            return Together(encoder, compiled, _report, rows)
        switch = AdapterSwitch(language.model, has_adapter=self._has_adapter)
        slots = open_slots(language)
        if slots is None:
            return OneByOne(language, switch, _report, self._closing)
        own = Rows(*slots, switch)
        return Together(encoder, own, _report, rows)

    def _check_can(self, request: GenerationRequest) -> None:
        if request.scores_prompt and not self._runner.scores_prompts:
            raise Refusal(
                "This base model answers one request after the other, "
                "and does not score prompts: leave echo or logprobs out.",
                code="unsupported_parameter",
                param="echo",
            )

    def _work(self) -> None:
        """Answer requests until closed. Whatever ends the thread, nobody is left waiting."""
        import torch

        end: Callable[[RunningAnswer], None] = RunningAnswer.fail
        try:
            with torch.inference_mode():
                self._keep_answering()
            end = RunningAnswer.cancel
        finally:
            self._closing.set()
            self._runner.end_all(end)
            self._fail_waiting()

    def _keep_answering(self) -> None:
        while not self._closing.is_set():
            self._begin_waiting()
            self._runner.advance()

    def _begin_waiting(self) -> None:
        """Begin what there is a place and memory for, in the order in which it came."""
        while self._runner.has_place():
            # Kept until it runs: where the thread ends in between, it fails with those that wait.
            self._first = answer = self._next_waiting()
            if answer is None:
                return
            # It needs no place and no memory: those behind it must not wait for it.
            if answer.is_over:
                answer.finish()
            elif not self._begin(answer):
                return
            self._first = None

    def _begin(self, answer: RunningAnswer) -> bool:
        """Have it take part; False where it would not fit beside those that run."""
        with_adapter = self._uses_adapter(answer.request.model)
        if not self._runner.has_memory_for(answer, with_adapter=with_adapter):
            return False
        self._runner.add(answer, with_adapter=with_adapter)
        return True

    def _next_waiting(self) -> RunningAnswer | None:
        """The next answer to begin; waits for one where nothing runs."""
        if self._first is not None:
            return self._first
        try:
            return self._waiting.get(block=self._runner.is_idle)
        except queue.Empty:
            return None

    def _uses_adapter(self, model: str) -> bool:
        spec = self.specs[model]
        is_tuned = spec.adapter_sha256 is not None
        return is_tuned and self._has_adapter

    def _fail_waiting(self) -> None:
        message = str(not_ready_error())
        if self._first is not None:
            self._first.fail(message)
        with contextlib.suppress(queue.Empty):
            while True:
                answer = self._waiting.get_nowait()
                if answer is not None:
                    answer.fail(message)


def has_adapter(language: LanguageModel, specs: Mapping[str, ServingSpec]) -> bool:
    """Whether weights were put on the base.

    peft wraps it only then: without any, as with a prompt, there is nothing to switch off.
    """
    if language.encoder.prompt is not None:
        return False
    adapters = [spec.adapter_sha256 for spec in specs.values()]
    return any(adapter is not None for adapter in adapters)


def _report(answer: RunningAnswer, error: Exception) -> None:
    model = answer.request.model
    kind = type(error).__name__
    text = str(error)[:300]
    say(f"The engine failed on an answer of {model}: {kind}: {text}")
