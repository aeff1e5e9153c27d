"""What a person reads on standard output and standard error."""

import json
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

from core.address import redact_secrets

_CONTROL = (*range(0x20), *range(0x7F, 0xA0))
# They turn the direction of what follows, so that a line reads otherwise than it is.
_TURNING = (*range(0x202A, 0x202F), *range(0x2066, 0x206A))
_LAYOUT = (ord("\n"), ord("\t"))
_SPELT_OUT = {
    code: f"\\u{code:04x}" for code in (*_CONTROL, *_TURNING) if code not in _LAYOUT
}
# A process has one standard output, and so one list of its other readers.
_listeners: list[Callable[[str], None]] = []


def add_listener(listener: Callable[[str], None]) -> None:
    """Pass every later line of `say` to `listener` too, such as a deployed flow run's log."""
    _listeners.append(listener)


def say(text: str) -> None:
    """Write one line to standard output at once, without secrets, and give it to every listener.

    What a terminal would obey is spelt out: names and answers may be anybody's.
    """
    _write(spell_out(redact_secrets(text)))


def spell_out(text: str) -> str:
    r"""A text with its control characters written as `\u001b`; line ends and tabs stay."""
    return text.translate(_SPELT_OUT)


def say_json(document: Any) -> None:
    """Write a JSON document as one line, without the secrets in its texts.

    Redacting the finished line could take a quote or a bracket away with a secret.
    """
    _write(json.dumps(_redact_texts(document)))


def _redact_texts(document: Any) -> Any:
    if isinstance(document, str):
        return redact_secrets(document)
    if isinstance(document, dict):
        return {key: _redact_texts(entry) for key, entry in document.items()}
    if isinstance(document, list | tuple):
        return [_redact_texts(entry) for entry in document]
    return document


def _write(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    # At once: output to a pipe is buffered, and a run takes minutes between two lines.
    sys.stdout.flush()
    for listener in _listeners:
        listener(line)


# Cached, so that the second call with the same text does nothing.
@cache
def warn_once(text: str) -> None:
    """Write a line to standard error, once for each text.

    Standard output is left to the result, which a machine may read.
    """
    sys.stderr.write(f"assay: {text}\n")
    sys.stderr.flush()


def duration(seconds: float) -> str:
    """`8.1 s` or `3 m 07 s`."""
    minutes, rest = divmod(seconds, 60)
    if not minutes:
        return f"{rest:.1f} s"
    return f"{int(minutes)} m {int(rest):02d} s"
