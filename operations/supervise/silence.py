"""Whether a service that was ready still answers: asked now and then, and silent only after several questions over a minute."""

import time
from datetime import UTC, datetime

from core.loopback import answers

SECONDS_BETWEEN_QUESTIONS = 20.0
SECONDS_OF_SILENCE = 60.0
QUESTIONS_WITHOUT_ANSWER = 4


class Silence:
    """The silence of one service, from the moment in which it was ready."""

    def __init__(self, health: str | None) -> None:
        """A service without an address is never asked."""
        self.since: datetime | None = None
        """The first of the questions in a row that had no answer."""
        self._health = health
        self._asked = self._began = time.monotonic()
        self._unanswered = 0

    def is_long(self) -> bool:
        """Ask, if it is time to, and say whether it has been silent for long."""
        if (
            self._health is not None
            and time.monotonic() - self._asked >= SECONDS_BETWEEN_QUESTIONS
        ):
            self._asked = time.monotonic()
            self._note(is_answered=answers(self._health))
        return (
            self._unanswered >= QUESTIONS_WITHOUT_ANSWER
            and self._asked - self._began >= SECONDS_OF_SILENCE
        )

    def _note(self, *, is_answered: bool) -> None:
        if is_answered:
            self.since, self._unanswered = None, 0
            return
        if self.since is None:
            self.since, self._began = datetime.now(UTC), self._asked
        self._unanswered += 1
