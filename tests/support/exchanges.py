"""Requests as the endpoint's app sees them, without an app."""

import json
from typing import Any

from serving.observing.observer import Observer

_TRACE = b"00-" + b"1" * 32 + b"-" + b"2" * 16 + b"-01"


def completed(
    observer: Observer,
    model: str,
    text: str,
    *,
    stream: bool = False,
    status: int = 200,
    fallback: str = "",
) -> None:
    """One request and its answer, which say the same."""
    exchange = observer.begin(
        {
            "type": "http",
            "method": "POST",
            "path": "/v1/chat/completions",
            "headers": [(b"traceparent", _TRACE)],
        }
    )
    exchange.model = model
    exchange.answer_form = "json_object"
    messages = [{"role": "user", "content": text}]
    exchange.request = json.dumps({"model": model, "messages": messages}).encode()
    exchange.actions["response.email.mask"] += 2
    kind = b"text/event-stream" if stream else b"application/json"
    headers = [(b"content-type", kind), (b"x-assay-release", b"3")]
    if fallback:
        headers.append((b"x-assay-fallback", fallback.encode()))
    exchange.take({"type": "http.response.start", "status": status, "headers": headers})
    body = _body(text, stream=stream, status=status)
    exchange.take({"type": "http.response.body", "body": body})
    observer.end(exchange)


def _body(text: str, *, stream: bool, status: int) -> bytes:
    if status != 200:
        return b'{"error": {"code": "not_ready"}}'
    part = "delta" if stream else "message"
    choice = {part: {"content": text}, "finish_reason": "stop"}
    document: dict[str, Any] = {"id": "chatcmpl-1", "choices": [choice]}
    if stream:
        return f"data: {json.dumps(document)}\n\ndata: [DONE]\n\n".encode()
    document["usage"] = {"prompt_tokens": 5, "completion_tokens": 7}
    return json.dumps(document).encode()
