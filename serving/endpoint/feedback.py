"""Ratings of answers: of which answer, by whom, and for which side of a release they count."""

import ipaddress
import re
import time
from collections import Counter, OrderedDict
from dataclasses import dataclass
from typing import NamedTuple

from pipelines.engines.refusal import Refusal
from registry.release.canary_counts import Side, SideCounts
from serving.feedback_schema import ANSWER_ID, Rating
from serving.observing.origin import UNKNOWN, Origin

# Answers that can be rated: the latest ones. One of them takes 0.3 kB.
_MOST_ANSWERS = 20_000
_SECONDS_TO_RATE = 86_400.0
# Clients that are told apart in one release. By then its ratings have shown what they can.
_MOST_CLIENTS = 20_000
# Engines write the id first. Anywhere else it may be part of a text.
_LONGEST_OPENING = 256
_OPENING = re.compile(rb'(?:data: )?\{\s*"id"\s*:\s*"(%s)"' % ANSWER_ID.encode())
# A household or an office has a network of IPv6 addresses of its own.
_IPV6_NETWORK = 64


class Ratings:
    """What clients said of both sides of one release, from its first step to the end of its bake.

    The test takes its observations for independent, and one client's are not. So clients are
    counted and not ratings, each once, for the side that it rated first.
    """

    def __init__(self) -> None:
        self._clients: set[str] = set()
        self._raters: Counter[Side] = Counter()
        self._negative: Counter[Side] = Counter()

    def count(self, side: Side, client: str, rating: Rating) -> None:
        """Count a client, unless that was done before."""
        if client in self._clients:
            return
        if len(self._clients) >= _MOST_CLIENTS:
            return
        self._clients.add(client)
        self._raters[side] += 1
        self._negative[side] += rating.is_negative

    def added_to(self, counts: SideCounts, side: Side) -> SideCounts:
        """What a side has counted, with its ratings."""
        ratings = {
            "raters": self._raters[side],
            "feedback": self._negative[side],
        }
        return counts.model_copy(update=ratings)


class RatedSide(NamedTuple):
    """Where the ratings of an answer count."""

    ratings: Ratings
    side: Side


# Slots: thousands are kept, and what each takes is most of what an endpoint's memory grows by.
@dataclass(slots=True)
class _Given:
    """An answer that a client was sent."""

    # On the monotonic clock.
    at: float
    # None: no release was watched on that side.
    rated_side: RatedSide | None
    origin: Origin
    is_rated: bool = False


class GivenAnswers:
    """The answers that clients were sent lately, by id. An endpoint that starts knows none."""

    def __init__(
        self,
        most: int = _MOST_ANSWERS,
        seconds: float = _SECONDS_TO_RATE,
    ) -> None:
        self._most = most
        self._seconds = seconds
        # The oldest one first.
        self._answers: OrderedDict[str, _Given] = OrderedDict()
        # Equal ones are kept once: of thousands of answers a handful differ.
        self._last_origin = UNKNOWN

    def add(
        self, answer_id: str, rated_side: RatedSide | None, origin: Origin = UNKNOWN
    ) -> None:
        """Keep an answer; the first one where an engine gives an id twice."""
        now = time.monotonic()
        if origin != self._last_origin:
            self._last_origin = origin
        given = _Given(now, rated_side, self._last_origin)
        self._answers.setdefault(
            answer_id,
            given,
        )
        while self._is_oldest_over(now):
            self._answers.popitem(last=False)

    def rate(self, rating: Rating, client: str) -> Origin:
        """Count a rating, and say what gave the answer.

        `Refusal` where there is no such answer, or it was rated before.
        """
        given = self._answers.get(rating.id)
        now = time.monotonic()
        if given is None or self._is_expired(given, now):
            raise _not_given_error()
        # One answer, one rating: a second one would count somebody twice.
        if given.is_rated:
            raise _already_rated_error()
        given.is_rated = True
        if given.rated_side is not None:
            ratings, side = given.rated_side
            ratings.count(
                side,
                client,
                rating,
            )
        return given.origin

    def _is_oldest_over(self, now: float) -> bool:
        """Whether the oldest one is too old, or one too many."""
        if len(self._answers) > self._most:
            return True
        answers = iter(self._answers.values())
        oldest = next(answers, None)
        return oldest is not None and self._is_expired(oldest, now)

    def _is_expired(self, given: _Given, now: float) -> bool:
        return now - given.at >= self._seconds


class IdReader:
    """Reads the id of an answer while it is sent, whole or as a stream."""

    def __init__(
        self,
        given_answers: GivenAnswers,
        rated_side: RatedSide | None,
        origin: Origin = UNKNOWN,
    ) -> None:
        self._given_answers = given_answers
        self._rated_side = rated_side
        self._origin = origin
        self._opening = b""
        self._is_done = False

    def take(self, chunk: bytes) -> None:
        """A piece of the response, before it is sent to the client."""
        if self._is_done:
            return
        self._opening += chunk[:_LONGEST_OPENING]
        found = _OPENING.match(self._opening)
        if found is not None:
            answer_id = found[1].decode()
            self._given_answers.add(answer_id, self._rated_side, self._origin)
        is_long_enough = len(self._opening) >= _LONGEST_OPENING
        self._is_done = is_long_enough or found is not None


def client_of(address: str | None) -> str:
    """Who is counted as one client: an IPv4 address, or a network of 64 bits of IPv6.

    Whatever is no address is one client, however it is written: a client may choose it.
    """
    try:
        ip = ipaddress.ip_address(address or "")
    except ValueError:
        return "unknown"
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    # Bits of the network alone; the rest, and a zone, are chosen by the client.
    network = int(ip) >> (128 - _IPV6_NETWORK)
    return f"{network:x}"


def _not_given_error() -> Refusal:
    return Refusal(
        "No answer of that id was given here in the last day: "
        "rate an answer by the id that came with it.",
        status=404,
        code="answer_not_found",
        param="id",
    )


def _already_rated_error() -> Refusal:
    return Refusal(
        "That answer was rated already: rate another one.",
        status=409,
        code="already_rated",
        param="id",
    )
