"""What an engine process looks like from outside: it answers as a test says, at once or slowly."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.support.short_server import listening

REPLAYED = "replayed"
"""A question that no user asks."""


@dataclass
class StandIn:
    """An engine's answers, and how many it was asked for."""

    text: str = "The archive was moved to the second floor."
    status: int = 200
    seconds: float = 0.0
    # It cuts the connection instead of answering.
    cuts: bool = False
    port: int = 0
    asked: list[str] = field(default_factory=list)
    # Under which names, and what it sent.
    models: list[str] = field(default_factory=list)
    sent: list[bytes] = field(default_factory=list)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["StandIn"]:
        """Listen on a free port of this machine for as long as the context lasts."""
        async with listening(self._answer) as self.port:
            yield self

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
        body = json.loads(await reader.readexactly(length))
        is_chat = "messages" in body
        question = body["messages"][-1]["content"] if is_chat else body["prompt"]
        if question != REPLAYED:
            self.asked.append(question)
            self.models.append(body["model"])
        await asyncio.sleep(self.seconds)
        if self.cuts:
            return
        streams = bool(body.get("stream"))
        content, kind = self._content(streams=streams, is_chat=is_chat)
        writer.write(
            f"HTTP/1.1 {self.status} OK\r\ncontent-type: {kind}\r\n"
            f"content-length: {len(content)}\r\n\r\n".encode()
        )
        writer.write(content)
        self.sent.append(content)
        await writer.drain()

    def _content(self, *, streams: bool, is_chat: bool) -> tuple[bytes, str]:
        if self.status != 200:
            return b'{"error": {"message": "no", "code": "x"}}', "application/json"
        kind = "chatcmpl" if is_chat else "cmpl"
        answer_id = f"{kind}-{uuid.uuid4().hex}"
        whole: dict[str, object] = {"text": self.text}
        pieces: list[dict[str, object]] = [whole]
        if is_chat:
            whole = {"message": {"content": self.text}}
            deltas = [{"role": "assistant", "content": ""}, {"content": self.text}]
            pieces = [{"delta": delta} for delta in deltas]
        if not streams:
            answer = {"id": answer_id, "choices": [whole]}
            return json.dumps(answer).encode(), "application/json"
        events = [
            f"data: {json.dumps({'id': answer_id, 'choices': [piece]})}\n\n"
            for piece in pieces
        ]
        text = "".join([*events, "data: [DONE]\n\n"])
        return text.encode(), "text/event-stream"
