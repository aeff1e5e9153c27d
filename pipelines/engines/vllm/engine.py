"""The engine: requests to vLLM's server, and its tokens as text that ends where ours ends.

    submit ─▶ a task of the engine's own event loop ─▶ ask ─▶ RunningAnswer ─▶ Finished

Stop strings, counts, end tokens and incomplete characters are `RunningAnswer`'s, as in every
engine. vLLM chooses the tokens.
"""

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from functools import partial

import httpx

from core.errors import ServingError
from core.log import say
from pipelines.engines import (
    VLLM,
    Cancel,
    Deliver,
    Form,
    FormFault,
    GenerationRequest,
    TokenScore,
)
from pipelines.engines.json_form import JsonForms, holds_to_none_error
from pipelines.engines.model_texts import ModelTexts
from pipelines.engines.plain_text import PlainText
from pipelines.engines.refusal import Refusal, not_ready_error, overloaded_error
from pipelines.engines.running_answer import FAULTS, RunningAnswer
from pipelines.engines.vllm.asking import (
    AnswerStopped,
    ChosenToken,
    Question,
    ask,
    open_client,
)
from pipelines.engines.vllm.prompt_scores import score_prompt
from pipelines.engines.vllm.server import Server
from pipelines.models.chat import ChatEncoder
from pipelines.values.dataset import Message
from pipelines.values.serving_spec import ServingSpec

# A longer queue only hides that clients wait too long.
QUEUE_LENGTH = 32
WhenLost = Callable[[str], None]
_SECONDS_TO_STOP = 10.0
# What comes of a server that has ended.
_LOST = (httpx.NetworkError, httpx.RemoteProtocolError)
# vLLM computes no other answer meanwhile, twice.
_MOST_SECONDS_TO_COMPILE = 0.2
_NOT_FOLLOWED = (
    "vLLM cannot follow the JSON Schema in response_format to the end of this answer. "
    "Simplify its patterns and alternatives, and nest them less deeply."
)


@dataclass(frozen=True)
class ServedModels:
    """What answers under which name, and under which name vLLM has it."""

    specs: Mapping[str, ServingSpec]
    # By the name that clients use: digests of weights.
    names: Mapping[str, str]
    encoder: ChatEncoder
    context_tokens: int


class VllmEngine:
    """Answers of a server that this process started and ends."""

    def __init__(
        self, models: ServedModels, server: Server, rows: int, when_lost: WhenLost
    ) -> None:
        """`rows`: how many answers the server computes at once; some more wait in it.

        `when_lost` is called with a sentence where the server ends by itself.
        """
        self.specs = models.specs
        self.context_tokens = models.context_tokens
        self._names = models.names
        self._encoder = models.encoder
        self._texts = ModelTexts(models.encoder, models.specs)
        self._json_forms = JsonForms(models.encoder, VLLM)
        self._server = server
        self._client = open_client(server.address)
        self._when_lost = when_lost
        self._closing = threading.Event()
        self._most = rows + QUEUE_LENGTH
        # Requests that were taken and are not over, counted by the threads that submit.
        self._taken = 0
        # Also held while closing begins: whatever was taken before gets its end.
        self._counting = threading.Lock()
        self._tasks: dict[RunningAnswer, asyncio.Task[None]] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()
        watching = threading.Thread(target=self._watch, name="watch", daemon=True)
        watching.start()

    @property
    def is_ready(self) -> bool:
        """Whether the server runs and requests are taken."""
        return not self._closing.is_set() and self._server.is_running

    def prompt_ids(self, messages: Sequence[Message], model: str) -> list[int]:
        """Token ids of a conversation with a model, as `ModelTexts` has them."""
        return self._texts.prompt_ids(messages, model)

    def plain_text(self, model: str) -> PlainText:
        """Text outside of conversations, as `ModelTexts` has it."""
        return self._texts.plain_text(model)

    def json_form(self, schema: str) -> Form:
        """What vLLM is told of a JSON Schema, and by which its answers are followed here."""
        # In vLLM JSON ends with this token alone.
        if self._encoder.tokenizer.eos_token_id is None:
            raise holds_to_none_error(VLLM)
        form = self._json_forms.compile(schema)
        if form.seconds > _MOST_SECONDS_TO_COMPILE:
            raise _too_dear_error()
        return form

    def submit(self, request: GenerationRequest, deliver: Deliver) -> Cancel:
        """Hand a request to the server; the returned function cancels it, queued or running.

        `Refusal` where the engine has stopped, too many wait, or it lacks what is asked for.
        """
        _check_can(request)
        if not self.is_ready:
            raise not_ready_error()
        answer = RunningAnswer(request, deliver, self._encoder)
        with self._counting:
            # It may have been closed since the look above.
            if self._closing.is_set():
                raise not_ready_error()
            if self._taken >= self._most:
                raise overloaded_error()
            self._taken += 1
            self._loop.call_soon_threadsafe(self._begin, answer)
        return partial(self._cancel, answer)

    def close(self) -> None:
        """Cancel what runs, and end the server."""
        with self._counting:
            if self._closing.is_set():
                return
            self._closing.set()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_SECONDS_TO_STOP)
        self._server.close()

    def _watch(self) -> None:
        """Close where the server ends by itself."""
        fact = self._server.wait_for_end()
        if self._closing.is_set():
            return
        self.close()
        self._when_lost(fact)

    def _work(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.run_until_complete(self._end_all())
            self._loop.close()

    async def _end_all(self) -> None:
        # Once more around the loop: all that was taken before it was closed has begun then.
        await asyncio.sleep(0)
        tasks = tuple(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._loop.shutdown_asyncgens()
        await self._client.aclose()

    def _begin(self, answer: RunningAnswer) -> None:
        task = self._loop.create_task(self._generate(answer))
        self._tasks[answer] = task
        task.add_done_callback(partial(self._end, answer))

    def _cancel(self, answer: RunningAnswer) -> None:
        answer.cancelled.set()
        # A loop that is closed has ended every answer.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._stop, answer)

    def _stop(self, answer: RunningAnswer) -> None:
        task = self._tasks.get(answer)
        if task is not None:
            task.cancel()

    async def _generate(self, answer: RunningAnswer) -> None:
        request = answer.request
        # A request for no token at all.
        if answer.is_over:
            return
        question = Question.of(
            request, self._names[request.model], self._encoder.end_ids
        )
        if request.scores_prompt:
            first, show = request.scores_from, self._encoder.show
            scores = await score_prompt(self._client, question, first, show)
            answer.give_prompt_scores(scores)
            return
        try:
            await self._relay(answer, question)
        except AnswerStopped as stop:
            if request.form is None:
                raise
            # Its grammar has limits of its own.
            raise FormFault(_NOT_FOLLOWED) from stop

    async def _relay(self, answer: RunningAnswer, question: Question) -> None:
        request = answer.request
        async with aclosing(ask(self._client, question)) as tokens:
            async for token in tokens:
                # What vLLM holds to a form is believed only where it has the form.
                answer.follow(token.id, self._score(token, request))
                answer.write()
                # Leaving early aborts the rest of it in vLLM.
                if answer.is_over:
                    return
        raise ServingError("vLLM ended an answer before its end")

    def _score(
        self, token: ChosenToken, request: GenerationRequest
    ) -> TokenScore | None:
        count = request.top_logprobs
        if count is None:
            return None
        show = self._encoder.show
        top = []
        for number, logprob in token.top[:count]:
            top.append((number, show([number]), logprob))
        return TokenScore(token.id, show([token.id]), token.logprob, tuple(top))

    def _end(self, answer: RunningAnswer, task: "asyncio.Task[None]") -> None:
        """Deliver its last event. Whatever ended the task, nobody is left waiting."""
        del self._tasks[answer]
        # Before its last event: whoever hears of that may submit the next one at once.
        with self._counting:
            self._taken -= 1
        error = None if task.cancelled() else task.exception()
        # Without its server it is as if it were closed: another engine may answer the request.
        if task.cancelled() or isinstance(error, _LOST):
            answer.cancel()
            return
        error = error or _finish(answer)
        if error is None:
            return
        kind = type(error).__name__
        fact = str(error)
        text = fact[:300]
        model = answer.request.model
        say(f"The engine failed on an answer of {model}: {kind}: {text}")
        if isinstance(error, FormFault):
            answer.fail(text, param="response_format")
        else:
            answer.fail()


def _finish(answer: RunningAnswer) -> Exception | None:
    """Deliver its last event; what it failed with where its last text could not be written."""
    try:
        answer.finish()
    except FAULTS as fault:
        return fault
    return None


def _check_can(request: GenerationRequest) -> None:
    # A whole one would be a question for each of its tokens.
    is_whole = request.scores_from == 0 or request.max_tokens > 0
    if request.scores_prompt and is_whole:
        raise Refusal(
            "The engine vllm does not score prompts: leave echo or logprobs out.",
            code="unsupported_parameter",
            param="echo",
        )
    # vLLM's are those of what the schema lets through.
    if request.form is not None and request.top_logprobs is not None:
        raise Refusal(
            "The engine vllm does not give the model's probabilities of an answer that is held to "
            "a JSON Schema: leave logprobs or response_format out.",
            code="unsupported_parameter",
            param="logprobs",
        )


def _too_dear_error() -> Refusal:
    return Refusal(
        "No answer can be held to the JSON Schema in response_format: the engine vllm compiles it "
        "for each answer, and that would take too long. Simplify its patterns and multiples.",
        code="invalid_value",
        param="response_format",
    )
