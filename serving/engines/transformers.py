"""The reference engine: transformers' own `generate`, one answer at a time, on a thread of its own."""

import contextlib
import queue
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from core.errors import AssayError
from pipelines.models.language_model import LanguageModel
from pipelines.values.dataset import Message
from pipelines.values.serving_spec import ServingSpec
from serving.engines import Cancel, Deliver, Failed, Finished, Order, Piece
from serving.log import say
from serving.refusal import Refusal, not_ready, overloaded
from serving.text_stream import IncrementalText, StopStrings, TokenCount

if TYPE_CHECKING:
    import torch

QUEUE_LENGTH = 32
_SECONDS_TO_STOP = 30.0


@dataclass
class _Job:
    """An order on its way. Not frozen: the client may leave at any moment."""

    order: Order
    deliver: Deliver
    cancelled: threading.Event = field(default_factory=threading.Event)


class TransformersEngine:
    """One base in memory, with one adapter on top that is switched off for the base's own name."""

    def __init__(
        self,
        language: LanguageModel,
        specs: Mapping[str, ServingSpec],
        queue_length: int = QUEUE_LENGTH,
    ) -> None:
        self.specs = specs
        self.context_tokens = language.context_tokens
        self._language = language
        self._jobs: queue.Queue[_Job | None] = queue.Queue(maxsize=queue_length)
        self._closing = threading.Event()
        self._worker = threading.Thread(target=self._work, name="engine", daemon=True)
        self._worker.start()

    @property
    def is_ready(self) -> bool:
        """The worker runs and takes orders."""
        return self._worker.is_alive() and not self._closing.is_set()

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """Tokens of a conversation; what a user types in it stays text."""
        from jinja2 import TemplateError

        try:
            return self._language.encoder.prompt_ids(messages)
        except TemplateError as error:
            raise Refusal(
                f"The model's chat template refuses these messages: {error}.",
                param="messages",
            ) from error
        except AssayError as error:
            raise Refusal(str(error), param="messages") from error

    def submit(self, order: Order, deliver: Deliver) -> Cancel:
        """Queue an order; the returned function cancels it, queued or running."""
        if not self.is_ready:
            raise not_ready()
        job = _Job(order, deliver)
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            raise overloaded() from None
        if not self.is_ready:  # the worker ended between the two lines above
            self._fail_waiting()
        return job.cancelled.set

    def close(self) -> None:
        """Cancel what runs, fail what waits, and stop the thread."""
        self._closing.set()
        with contextlib.suppress(queue.Full):  # a full queue wakes the worker as well
            self._jobs.put_nowait(None)
        self._worker.join(_SECONDS_TO_STOP)

    def _work(self) -> None:
        """Answer orders until closed. Whatever ends the thread, nobody is left waiting."""
        try:
            while not self._closing.is_set():
                job = self._jobs.get()
                if job is not None:
                    self._answer(job)
        finally:
            self._closing.set()
            self._fail_waiting()

    def _fail_waiting(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                job = self._jobs.get_nowait()
                if job is not None:
                    job.deliver(Failed(str(not_ready())))

    def _answer(self, job: _Job) -> None:
        """One answer. RuntimeError is what torch raises, out of memory included; the process can go on after it."""
        outcome: Finished | Failed = Failed(
            "The engine stopped in the middle of this answer. Try again."
        )
        try:
            outcome = self._generate(job)
        except (RuntimeError, ValueError, IndexError) as error:
            say(
                f"The engine failed on an answer of {job.order.model}: {type(error).__name__}: {str(error)[:300]}"
            )
        finally:
            job.deliver(outcome)

    def _generate(self, job: _Job) -> Finished:
        import torch
        from transformers import StoppingCriteriaList

        if job.cancelled.is_set():
            return Finished("cancelled", 0)
        answer = _Answer(job, self._language, self._closing)
        prompt = torch.tensor([job.order.prompt], device=self._language.device)
        _set_seed(job.order)
        with torch.inference_mode(), self._weights_of(job.order.model):
            self._language.model.generate(
                input_ids=prompt,
                attention_mask=torch.ones_like(prompt),
                generation_config=_generation_config(job.order, self._language),
                streamer=answer,
                stopping_criteria=StoppingCriteriaList([answer.should_stop]),
            )
        return answer.finish()

    def _weights_of(self, model: str) -> contextlib.AbstractContextManager[Any]:
        """The adapter off for the base's name. There is an adapter only if some name is served with one."""
        has_adapter = any(
            spec.adapter_sha256 is not None for spec in self.specs.values()
        )
        if has_adapter and self.specs[model].adapter_sha256 is None:
            off: contextlib.AbstractContextManager[Any] = (
                self._language.model.disable_adapter()
            )
            return off
        return contextlib.nullcontext()


class _Answer:
    """What `generate` streams into: tokens in, pieces of text out, and the word to stop."""

    def __init__(
        self, job: _Job, language: LanguageModel, closing: threading.Event
    ) -> None:
        self._job = job
        self._closing = closing
        self._end_ids = frozenset(language.encoder.end_ids)
        self._text = IncrementalText(language.encoder.decode)
        self._stops = StopStrings(job.order.stop)
        self._tokens = TokenCount()
        self._is_ended = False
        self._prompt_is_past = False

    def put(self, tokens: "torch.Tensor") -> None:
        """Transformers' streamer protocol: the prompt first, then each new token."""
        if not self._prompt_is_past:
            self._prompt_is_past = True
            return
        for token in tokens.reshape(-1).tolist():
            self._take(token)

    def end(self) -> None:
        """Transformers' streamer protocol; `finish` does this once the reason is known."""

    def should_stop(
        self, input_ids: "torch.Tensor", _scores: Any, **_: Any
    ) -> "torch.Tensor":
        """Whether anybody still wants the next token."""
        import torch

        return torch.full(
            (input_ids.shape[0],),
            self._is_cancelled or self._stops.is_stopped,
            device=input_ids.device,
        )

    def finish(self) -> Finished:
        """Deliver what was held back, and say why the answer ended."""
        self._send(self._stops.push(self._text.flush()) + self._stops.flush())
        if self._stops.is_stopped:
            return Finished("stop", self._tokens.within(self._stops.kept))
        if self._is_ended:
            return Finished("stop", self._tokens.total)
        return Finished(
            "cancelled" if self._is_cancelled else "length", self._tokens.total
        )

    @property
    def _is_cancelled(self) -> bool:
        return self._job.cancelled.is_set() or self._closing.is_set()

    def _take(self, token: int) -> None:
        if token in self._end_ids:
            self._is_ended = True
            return
        text = self._text.push(token)
        self._tokens.add(text)
        self._send(self._stops.push(text))

    def _send(self, text: str) -> None:
        if text:
            self._job.deliver(Piece(text))


def _set_seed(order: Order) -> None:
    """Answers are made one at a time, so torch's one generator is this order's own."""
    import torch

    if order.temperature > 0:
        torch.manual_seed(order.seed) if order.seed is not None else torch.seed()


def _generation_config(order: Order, language: LanguageModel) -> Any:
    """Greedy as `pipelines.models.language_model.generate` is: what is served is what was scored."""
    from transformers import GenerationConfig

    sampling = (
        {"temperature": order.temperature, "top_p": order.top_p, "top_k": 0}
        if order.temperature > 0
        else {}
    )
    return GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=order.temperature > 0,
        max_new_tokens=order.max_tokens,
        eos_token_id=language.encoder.end_ids,
        pad_token_id=language.encoder.pad_id,
        **sampling,
    )
