"""The header that says what stood in for the release that was asked."""

from starlette.types import Message, Send

from serving.endpoint.lanes import Lane, Target

FALLBACK_HEADER = b"x-assay-fallback"
RELEASE = "release"
"""Another release of the same model, which `x-assay-release` names."""


def mark(send: Send, step: str) -> Send:
    """The same `send`, by which the answer's head names a step."""

    async def send_marked(message: Message) -> None:
        if message["type"] == "http.response.start":
            header = (FALLBACK_HEADER, step.encode())
            message = {**message, "headers": [*message["headers"], header]}
        await send(message)

    return send_marked


def mark_stand_in(
    send: Send, lane: Lane | None, target: Target, lost_port: int | None
) -> Send:
    """The same `send`; marked where that target answers in the place of another one."""
    entitled = () if lane is None else tuple(each.target for each in lane.branches)
    if lost_port is None and target in entitled:
        return send
    return mark(send, RELEASE)
