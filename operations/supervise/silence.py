"""Whether a service that was ready still answers.

It is asked now and then, and is silent only after several unanswered questions over a minute.
"""

import time
from datetime import UTC, datetime

from core.loopback import answers

# Each question costs the service a request, for as long as it runs.
SECONDS_BETWEEN_QUESTIONS = 20.0
SECONDS_OF_SILENCE = 60.0
# Several, since one question may fail on a busy machine.
QUESTIONS_WITHOUT_ANSWER = 4


class Silence:
    """The silence of one service, from the moment at which it was ready."""

    def __init__(self, health: str | None) -> None:
        """Start without any question; a service without an address is never asked."""
        self.since: datetime | None = None
        """Time of the first of the unanswered questions in a row."""
        self._health = health
        self._last_question = self._first_unanswered = time.monotonic()
        self._unanswered = 0

    def is_long(self) -> bool:
        """Ask the service where a question is due, and tell whether it has been silent for long."""
        now = time.monotonic()
        is_question_due = now - self._last_question >= SECONDS_BETWEEN_QUESTIONS
        if self._health is not None and is_question_due:
            self._last_question = now
            self._note_reply(is_answered=answers(self._health))
        if self._unanswered < QUESTIONS_WITHOUT_ANSWER:
            return False
        seconds_of_silence = self._last_question - self._first_unanswered
        return seconds_of_silence >= SECONDS_OF_SILENCE

    def _note_reply(self, *, is_answered: bool) -> None:
        if is_answered:
            self.since, self._unanswered = None, 0
            return
        if self.since is None:
            self.since = datetime.now(UTC)
            self._first_unanswered = self._last_question
        self._unanswered += 1
