"""The kept answer to one request of a client, if there is one; otherwise its answer is kept."""

from starlette.types import Send

from serving.endpoint.answer_cache import CACHE_HEADER, AnswerCache, CacheWriter
from serving.endpoint.call import Call
from serving.endpoint.feedback import GivenAnswers, IdReader
from serving.endpoint.lanes import Target
from serving.observing.origin import Origin
from serving.paths import FINGERPRINT_HEADER, RELEASE_HEADER


class KeptAnswer:
    """What the cache has for a request to a target, or will have."""

    def __init__(
        self, cache: AnswerCache, target: Target, origin: Origin, key: str | None
    ) -> None:
        self._cache = cache
        self._target = target
        self._origin = origin
        # None: no answer to it is kept.
        self._key = key

    @classmethod
    def of(cls, cache: AnswerCache, target: Target, call: Call) -> "KeptAnswer":
        """Of a request as its client sent it."""
        origin = target.origin_as(call.model)
        # What is counted has to be answered by an engine.
        is_counted = target.tally is not None or target.rated_side is not None
        if is_counted:
            return cls(cache, target, origin, None)
        # Of the target and not of the lane: in a canary two releases have one name.
        # Of the engine that computes it, too: the answer itself names that.
        spec = target.computed_spec
        fingerprint = spec.fingerprint
        key = cache.key_of(call.body, call.path, fingerprint, call.tenant)
        return cls(cache, target, origin, key)

    async def send_to(self, send: Send, given_answers: GivenAnswers) -> bool:
        """Send the kept answer; says whether there was one."""
        answer = None if self._key is None else self._cache.find(self._key)
        if answer is None:
            return False
        # Before it is sent, and with its origin: a rating of it counts like any other.
        id_reader = IdReader(given_answers, None, self._origin)
        id_reader.take(answer)
        length = str(len(answer))
        start = {
            "type": "http.response.start",
            "status": 200,
            "headers": [
                (b"content-type", b"application/json"),
                (b"content-length", length.encode()),
                *self._headers(),
            ],
        }
        await send(start)
        await send({"type": "http.response.body", "body": answer})
        return True

    def _headers(self) -> list[tuple[bytes, bytes]]:
        """What an engine's own answer says as well, and that this is none."""
        fingerprint = self._target.spec.fingerprint
        label = self._target.label
        return [
            (FINGERPRINT_HEADER.encode(), fingerprint.encode()),
            (RELEASE_HEADER.encode(), label.encode()),
            (CACHE_HEADER, b"hit"),
        ]

    def watch(self, send: Send) -> Send:
        """The same `send`, by which an answer that is to be kept is read."""
        if self._key is None:
            return send
        writer = CacheWriter(
            self._cache,
            self._key,
            send,
        )
        return writer.send
