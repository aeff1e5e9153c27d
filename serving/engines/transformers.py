"""The reference engine: transformers' own `generate`, one answer at a time, on its own thread."""

import contextlib
import queue
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from core.errors import AssayError
from pipelines.models.incremental_text import IncrementalText
from pipelines.models.language_model import LanguageModel
from pipelines.values.dataset import Message
from pipelines.values.serving_spec import ServingSpec
from serving.engines import Cancel, Deliver, Failed, Finished, GenerationRequest, Piece
from serving.log import say
from serving.refusal import Refusal, not_ready_error, overloaded_error
from serving.text_stream import StopStrings, TokenCount

if TYPE_CHECKING:
    import torch

# At one answer at a time a longer queue only hides that clients wait too long.
QUEUE_LENGTH = 32
# For a token that is being generated when the engine closes.
_SECONDS_TO_STOP = 30.0


@dataclass
class _Job:
    """A request in the queue or at work. Not frozen: the client may leave at any moment."""

    request: GenerationRequest
    deliver: Deliver
    cancelled: threading.Event = field(default_factory=threading.Event)


class TransformersEngine:
    """One base in memory, and one adapter on it that is switched off for the base's own name."""

    def __init__(
        self,
        language: LanguageModel,
        specs: Mapping[str, ServingSpec],
        queue_length: int = QUEUE_LENGTH,
    ) -> None:
        self.specs = specs
        self.context_tokens = language.context_tokens
        self._language = language
        # None wakes the worker so that it sees that the engine is closing.
        self._jobs: queue.Queue[_Job | None] = queue.Queue(maxsize=queue_length)
        self._closing = threading.Event()
        self._worker = threading.Thread(target=self._work, name="engine", daemon=True)
        self._worker.start()

    @property
    def is_ready(self) -> bool:
        """Whether the worker runs and takes requests."""
        if self._closing.is_set():
            return False
        return self._worker.is_alive()

    def prompt_ids(self, messages: Sequence[Message], model: str) -> list[int]:
        """Token ids of a conversation with a model; what a user types in it stays text.

        A prompt that was released stands before it, and never before one with the base.

        `Refusal` where the chat template or the tokenizer refuses the messages.
        """
        from jinja2 import TemplateError

        encoder = self._language.encoder
        if self.specs[model].adapter_sha256 is None:
            encoder = encoder.bare
        try:
            return encoder.prompt_ids(messages)
        except TemplateError as error:
            raise Refusal(
                f"The model's chat template refuses these messages: {error}.",
                param="messages",
            ) from error
        except AssayError as error:
            raise Refusal(str(error), param="messages") from error

    def submit(self, request: GenerationRequest, deliver: Deliver) -> Cancel:
        """Queue a request; the returned function cancels it, queued or running.

        `Refusal` where the engine has stopped or its queue is full.
        """
        if not self.is_ready:
            raise not_ready_error()
        job = _Job(request, deliver)
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            raise overloaded_error() from None
        # The worker may have ended between the check and the put.
        if not self.is_ready:
            self._fail_queued()
        return job.cancelled.set

    def close(self) -> None:
        """Cancel what runs, fail what waits, and stop the thread."""
        self._closing.set()
        # A full queue wakes the worker as well.
        with contextlib.suppress(queue.Full):
            self._jobs.put_nowait(None)
        self._worker.join(_SECONDS_TO_STOP)

    def _work(self) -> None:
        """Answer requests until closed. Whatever ends the thread, nobody is left waiting."""
        try:
            while not self._closing.is_set():
                job = self._jobs.get()
                if job is not None:
                    self._answer(job)
        finally:
            self._closing.set()
            self._fail_queued()

    def _fail_queued(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                job = self._jobs.get_nowait()
                if job is None:
                    continue
                message = str(not_ready_error())
                job.deliver(Failed(message))

    def _answer(self, job: _Job) -> None:
        """Generate one answer, and deliver how it ended whatever happens."""
        outcome: Finished | Failed = Failed(
            "The engine stopped in the middle of this answer. Try again."
        )
        try:
            outcome = self._generate(job)
        # RuntimeError is what torch raises, out of memory included; the process works on after it.
        except (RuntimeError, ValueError, IndexError) as error:
            model = job.request.model
            fact = f"{type(error).__name__}: {str(error)[:300]}"
            say(f"The engine failed on an answer of {model}: {fact}")
        finally:
            job.deliver(outcome)

    def _generate(self, job: _Job) -> Finished:
        import torch
        from transformers import StoppingCriteriaList

        if job.cancelled.is_set():
            return Finished("cancelled", 0)
        streamer = _AnswerStreamer(job, self._language, self._closing)
        # One row: the shape is (1, tokens of the prompt).
        prompt = torch.tensor([job.request.prompt], device=self._language.device)
        _set_seed(job.request)
        with torch.inference_mode(), self._use_weights_of(job.request.model):
            self._language.model.generate(
                input_ids=prompt,
                attention_mask=torch.ones_like(prompt),
                generation_config=_generation_config(job.request, self._language),
                streamer=streamer,
                stopping_criteria=StoppingCriteriaList([streamer.should_stop]),
            )
        return streamer.finish()

    def _use_weights_of(self, model: str) -> contextlib.AbstractContextManager[Any]:
        """Switch the adapter off for the base's name.

        peft wraps the base only if some name is served with weights on it; without any, as with a
        prompt, there is nothing to switch off.
        """
        if self._language.encoder.prompt is not None:
            return contextlib.nullcontext()
        adapters = [spec.adapter_sha256 for spec in self.specs.values()]
        has_adapter = any(adapter is not None for adapter in adapters)
        if not has_adapter:
            return contextlib.nullcontext()
        if self.specs[model].adapter_sha256 is not None:
            return contextlib.nullcontext()
        without_adapter: contextlib.AbstractContextManager[Any] = (
            self._language.model.disable_adapter()
        )
        return without_adapter


class _AnswerStreamer:
    """What `generate` streams into: tokens in, pieces of text out, and the signal to stop."""

    def __init__(
        self, job: _Job, language: LanguageModel, closing: threading.Event
    ) -> None:
        self._job = job
        self._closing = closing
        self._end_ids = frozenset(language.encoder.end_ids)
        self._text = IncrementalText(language.encoder.decode_together)
        self._stops = StopStrings(job.request.stop)
        self._tokens = TokenCount()
        self._has_ended_turn = False
        self._has_seen_prompt = False

    def put(self, tokens: "torch.Tensor") -> None:
        """Transformers' streamer protocol: the prompt first, then each new token."""
        if not self._has_seen_prompt:
            self._has_seen_prompt = True
            return
        for token in tokens.reshape(-1).tolist():
            self._take(token)

    def end(self) -> None:
        """Transformers' streamer protocol; `finish` does this once the reason is known."""

    def should_stop(
        self, input_ids: "torch.Tensor", _scores: Any, **_: Any
    ) -> "torch.Tensor":
        """Whether nobody wants the next token: one boolean for each row, shape (rows,)."""
        import torch

        is_over = self._is_cancelled or self._stops.is_stopped
        rows = input_ids.shape[0]
        return torch.full(
            (rows,),
            is_over,
            device=input_ids.device,
        )

    def finish(self) -> Finished:
        """Deliver what was held back, and give the reason why the answer ended."""
        rest = self._stops.push(self._text.flush())
        self._send(rest + self._stops.flush())
        if self._stops.is_stopped:
            kept = self._stops.kept
            return Finished("stop", self._tokens.within(kept))
        total = self._tokens.total
        if self._has_ended_turn:
            return Finished("stop", total)
        if self._is_cancelled:
            return Finished("cancelled", total)
        return Finished("length", total)

    @property
    def _is_cancelled(self) -> bool:
        is_closing = self._closing.is_set()
        return is_closing or self._job.cancelled.is_set()

    def _take(self, token: int) -> None:
        # The token that ends the turn is no part of the text, and is not counted.
        if token in self._end_ids:
            self._has_ended_turn = True
            return
        text = self._text.push(token)
        self._tokens.add(text)
        certain = self._stops.push(text)
        self._send(certain)

    def _send(self, text: str) -> None:
        if text:
            self._job.deliver(Piece(text))


def _set_seed(request: GenerationRequest) -> None:
    """Seed torch's one generator: one answer at a time is made, so it is this request's own."""
    import torch

    samples = request.temperature > 0
    if samples and request.seed is not None:
        torch.manual_seed(request.seed)
    elif samples:
        torch.seed()


def _generation_config(request: GenerationRequest, language: LanguageModel) -> Any:
    """Greedy as `pipelines.models.language_model.generate`: what is served is what was scored."""
    from transformers import GenerationConfig

    samples = request.temperature > 0
    sampling: dict[str, float] = {}
    if samples:
        sampling = {
            "temperature": request.temperature,
            "top_p": request.top_p,
            # transformers' default of 50 would cut what the client did not ask to cut.
            "top_k": 0,
        }
    return GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=samples,
        max_new_tokens=request.max_tokens,
        eos_token_id=language.encoder.end_ids,
        pad_token_id=language.encoder.pad_id,
        **sampling,
    )
