"""What answers where no engine of a model does: its base, a person, or a text; each is marked.

A request that an engine loses is answered by another release first (`lanes`); this is what comes
after that, and only where the endpoint's rules say so.
"""

import json
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError
from starlette.responses import JSONResponse, Response
from starlette.types import Message, Receive, Scope, Send

from core.value import Settable
from pipelines.engines.refusal import Refusal
from serving.answer import error_response
from serving.endpoint.call import Call
from serving.endpoint.handoff import Handoff
from serving.endpoint.lanes import Branch, Lane, Lanes, Target
from serving.endpoint.marks import mark
from serving.openai_schema.chat import parse_request

Step = Literal["base", "person", "template"]
Text = Annotated[str, Field(min_length=1, max_length=4_000)]
Forward = Callable[[Call, Lanes], Response]
_UNAVAILABLE = 503
_CODE = b'"not_ready"'


class FallbackRules(Settable):
    """Which steps are taken, in their order."""

    steps: Annotated[tuple[Step, ...], Field(min_length=1, max_length=3)]
    template: Text = "No model answers at this moment. Try again in a few minutes."
    person: Text = (
        "No model answers at this moment. Your request was handed to a person."
    )
    # Whether a person is sent what was asked, or only that something was.
    sends_texts: bool = False
    person_seconds: Annotated[float, Field(gt=0, le=30)] = 5.0

    @model_validator(mode="after")
    def _reach_every_step(self) -> Self:
        # A text always answers: nothing behind it is ever tried.
        if "template" in self.steps[:-1]:
            raise PydanticCustomError("steps", "the step template is the last one")
        if len(set(self.steps)) != len(self.steps):
            raise PydanticCustomError("steps", "a step is there twice")
        return self


class Fallback:
    """The chain of an endpoint."""

    def __init__(self, rules: FallbackRules, handoff: Handoff | None = None) -> None:
        self.rules = rules
        self.handoff = handoff

    def around(
        self, response: Response, call: Call, lanes: Lanes, forward: Forward
    ) -> Response:
        """The response, with the chain behind it."""
        chain = _Chain(
            self,
            call,
            lanes,
            forward,
        )
        return _ChainedResponse(response, chain)


class _ChainedResponse(Response):
    """A response; where it says that no engine answers, the next step is tried instead."""

    def __init__(self, first: Response, chain: "_Chain") -> None:
        super().__init__()
        self._first = first
        self._chain = chain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer by the first step that can."""
        # Only where nothing was sent yet can something else answer.
        held = _HeldRefusal(send)
        await self._first(scope, receive, held.take)
        if not held.is_held:
            return
        # No engine read it: a wrong request would be answered as if it were a right one.
        refusal = self._chain.find_refusal()
        if refusal is not None:
            await error_response(refusal)(scope, receive, send)
            return
        for step in self._chain.steps:
            response = await self._chain.response_of(step)
            if response is None:
                continue
            attempt = _HeldRefusal(mark(send, step))
            await response(scope, receive, attempt.take)
            if not attempt.is_held:
                return
        await held.release()


class _Chain:
    """The steps for one request."""

    def __init__(
        self, fallback: Fallback, call: Call, lanes: Lanes, forward: Forward
    ) -> None:
        self._all_steps = fallback.rules.steps
        self._fallback = fallback
        self._call = call
        self._lanes = lanes
        self._forward = forward

    @property
    def steps(self) -> tuple[Step, ...]:
        """Those that can give what the request asks for."""
        if parse_request(self._call.body).answer_schema is None:
            return self._all_steps
        # Texts of people and of templates are no JSON: a program would fail on them.
        return tuple(step for step in self._all_steps if step == "base")

    def find_refusal(self) -> Refusal | None:
        """What an engine would have said to a request that is none."""
        try:
            parse_request(self._call.body)
        except Refusal as refusal:
            return refusal
        return None

    async def response_of(self, step: Step) -> Response | None:
        """What that step answers; None where it cannot."""
        takes: dict[Step, Callable[[], Awaitable[Response | None]]] = {
            "base": self._ask_base,
            "person": self._hand_over,
            "template": self._say_template,
        }
        return await takes[step]()

    async def _ask_base(self) -> Response | None:
        target = find_base(self._lanes, self._call.model)
        if target is None:
            return None
        name = target.engine.base_name
        # A table of its own: the base may have no lane under its name.
        lanes = Lanes({name: Lane((Branch(target),))})
        return self._forward(renamed(self._call, name), lanes)

    async def _hand_over(self) -> Response | None:
        handoff = self._fallback.handoff
        if handoff is None:
            return None
        rules = self._fallback.rules
        request = json.loads(self._call.body)
        texts = request["messages"] if rules.sends_texts else None
        answer_id = f"person-{uuid.uuid4().hex}"
        if not await handoff.hand_over(answer_id, self._call.model, texts):
            return None
        return _text_response(self._call, answer_id, rules.person)

    async def _say_template(self) -> Response | None:
        text = self._fallback.rules.template
        answer_id = f"template-{uuid.uuid4().hex}"
        return _text_response(
            self._call,
            answer_id,
            text,
        )


class _HeldRefusal:
    """Keeps back the answer that no engine is there; lets every other one pass."""

    def __init__(self, send: Send) -> None:
        self.is_held = False
        self._send = send
        self._messages: list[Message] = []

    async def take(self, message: Message) -> None:
        """A message of the answer."""
        if message.get("status") == _UNAVAILABLE:
            self.is_held = True
        if not self.is_held:
            await self._send(message)
            return
        self._messages.append(message)
        body = b"".join(each.get("body", b"") for each in self._messages)
        is_complete = message["type"] == "http.response.body" and not message.get(
            "more_body", False
        )
        # Such as a full queue: the client may ask again.
        if is_complete and _CODE not in body:
            await self.release()

    async def release(self) -> None:
        """Send what was kept back after all."""
        self.is_held = False
        for message in self._messages:
            await self._send(message)


def find_base(lanes: Lanes, model: str) -> Target | None:
    """The base of a model on any engine that has it loaded and answers; None: there is none."""
    lane = lanes.table.get(model)
    names = [] if lane is None else [each.engine.base_name for each in lane.targets]
    for other in lanes.table.values():
        for target in other.targets:
            is_of_base = target.engine.base_name in names
            if is_of_base and target.engine.base_name and target.is_ready:
                return Target(target.engine, serves_base=True)
    return None


def renamed(call: Call, name: str) -> Call:
    """The same request under another name, with no patience left."""
    fields = json.loads(call.body)
    fields["model"] = name
    body = json.dumps(fields).encode()
    return replace(call, model=name, body=body, patience=0.0)


def _text_response(call: Call, answer_id: str, text: str) -> Response:
    """A text that no model made, in OpenAI's form."""
    # "none": it must never be counted or rated as what a release said.
    shared = {
        "id": answer_id,
        "created": int(time.time()),
        "model": call.model,
        "system_fingerprint": "none",
    }
    headers = {"x-assay-release": "none"}
    if json.loads(call.body).get("stream") is True:
        events = _events(shared, text)
        return Response(events, headers=headers, media_type="text/event-stream")
    message = {"role": "assistant", "content": text, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    usage = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    document = {
        **shared,
        "object": "chat.completion",
        "choices": [choice],
        "usage": usage,
    }
    return JSONResponse(document, headers=headers)


def _events(shared: dict[str, Any], text: str) -> str:
    deltas: tuple[tuple[dict[str, str], str | None], ...] = (
        ({"role": "assistant", "content": ""}, None),
        ({"content": text}, None),
        ({}, "stop"),
    )
    events = []
    for delta, reason in deltas:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        chunk = {**shared, "object": "chat.completion.chunk", "choices": [choice]}
        events.append(f"data: {json.dumps(chunk)}\n\n")
    return "".join([*events, "data: [DONE]\n\n"])
