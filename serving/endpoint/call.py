"""One request of a client, as far as the endpoint itself reads it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from serving.endpoint.lanes import Target
from serving.endpoint.upstream import EngineRequest
from serving.openai_schema.chat import parse_request
from serving.openai_schema.completions import parse_completion
from serving.openai_schema.generation import GenerationFields
from serving.paths import CHAT, COMPLETIONS

_PARSE: Mapping[str, Callable[[bytes], GenerationFields]] = {
    CHAT: parse_request,
    COMPLETIONS: parse_completion,
}

_JSON_FORMS = ("json_object", "json_schema")


class _ModelField(BaseModel):
    """As much of a body as the endpoint itself needs; the engine reads all of it."""

    model_config = ConfigDict(extra="ignore", strict=True)

    model: str
    user: Any = None
    response_format: Any = None


@dataclass(frozen=True)
class Call:
    """What a client asks, whole, and how long it may wait for an engine that is restarting."""

    model: str
    body: bytes
    # Seconds.
    patience: float
    # The field `user`: all requests of one user are on one side of a canary.
    user: str | None = None
    path: str = CHAT
    # Whose request it is, by the id of an API key; empty: nobody's.
    tenant: str = ""
    # What the answer is held to, by the type of `response_format`.
    answer_form: str = "text"

    @classmethod
    def read(
        cls, body: bytes, patience: float, path: str = CHAT, tenant: str = ""
    ) -> Self:
        """The call that a body holds; a body that is no request is a `Refusal`."""
        try:
            # Most of a body is its texts: to check them twice would cost as much again.
            fields = _ModelField.model_validate_json(body)
        except ValidationError:
            # The whole schema says better what is wrong.
            request = _PARSE[path](body)
            return cls(
                request.model,
                body,
                patience,
                request.user,
                path,
                tenant,
            )
        # One of another type is refused by the engine.
        user = fields.user if isinstance(fields.user, str) else None
        return cls(
            fields.model,
            body,
            patience,
            user,
            path,
            tenant,
            _form_of(fields.response_format),
        )

    def for_target(self, target: Target) -> EngineRequest:
        """The request as the target's engine is to see it: the base is called by its own name."""
        if target.model == self.model:
            return EngineRequest("POST", self.path, self.body)
        # Refuses what the engine would refuse, so that the body is known to be an object.
        _PARSE[self.path](self.body)
        fields = json.loads(self.body)
        fields["model"] = target.model
        return EngineRequest("POST", self.path, json.dumps(fields).encode())


def _form_of(response_format: Any) -> str:
    """Which form a request names; one that there is not is refused by the engine."""
    wanted = None
    if isinstance(response_format, dict):
        wanted = response_format.get("type")
    return wanted if wanted in _JSON_FORMS else "text"
