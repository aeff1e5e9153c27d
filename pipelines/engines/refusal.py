"""What the endpoint answers instead of a completion, in OpenAI's form."""

from typing import Any

from core.errors import ServingError


class Refusal(ServingError):
    """A request that is not served: an HTTP status, and the fields that an OpenAI client shows."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        kind: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.code = code
        self.param = param
        # Seconds after which a client may try again; None: the response does not say.
        self.retry_after = retry_after

    def body(self) -> dict[str, Any]:
        """`{"error": {message, type, param, code}}`."""
        return {
            "error": {
                "message": str(self),
                "type": self.kind,
                "param": self.param,
                "code": self.code,
            }
        }


def overloaded_error() -> Refusal:
    """The queue is full: a client may try again in a moment."""
    return Refusal(
        "The endpoint is busy. Try again in a few seconds.",
        status=503,
        kind="server_error",
        code="overloaded",
    )


def not_ready_error() -> Refusal:
    """The engine has stopped: this process answers nothing any more."""
    return Refusal(
        "The engine does not run. Start the endpoint again.",
        status=503,
        kind="server_error",
        code="not_ready",
    )


def internal_error() -> Refusal:
    """The client did nothing wrong; what did stays in the endpoint's log."""
    return Refusal(
        "The endpoint failed on this request. Its log says why.",
        status=500,
        kind="server_error",
        code="internal_error",
    )
