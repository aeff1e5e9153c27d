"""Which row it is that a chat template refuses: the encoder sees a conversation, no row."""

from collections.abc import Iterator
from contextlib import contextmanager

from core.errors import UnusableRow
from pipelines.values.dataset import Prompt, Row, text_of


@contextmanager
def name_refused(subject: Row | Prompt) -> Iterator[None]:
    """Name the row or the prompt in an `UnusableRow` that its encoding raises."""
    try:
        yield
    except UnusableRow as error:
        raise UnusableRow(f"{_name(subject)}: {error}") from error


def _name(subject: Row | Prompt) -> str:
    if isinstance(subject, Row):
        return f"Row {subject.number} ({subject.id})"
    # A prompt stands for all rows that ask it, and has no number.
    text = text_of(subject.messages)
    beginning = text[:40]
    return f"Held-out prompt {subject.id} ({beginning!r})"
