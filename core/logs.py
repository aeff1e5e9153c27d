"""What any library logs, without the secrets of this process's settings."""

import logging
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any

from core.address import redact_secrets


def keep_secrets_out_of_logs() -> None:
    """Redact every log record and every traceback that reaches the top.

    Libraries log the addresses that they were given.
    """
    factory = logging.getLogRecordFactory()
    # A second call would redact every record twice.
    if getattr(factory, "_keeps_secrets", False):
        return
    logging.setLogRecordFactory(_RedactingFactory(factory))
    sys.excepthook = _write_redacted


class _RedactingFactory:
    """Makes log records with another factory, and takes secrets out of their texts."""

    _keeps_secrets = True

    def __init__(self, factory: Callable[..., logging.LogRecord]) -> None:
        self._factory = factory

    def __call__(self, *arguments: Any, **options: Any) -> logging.LogRecord:
        record = self._factory(*arguments, **options)
        # Arguments that do not fit the format are reported by logging itself.
        with suppress(Exception):
            message = record.getMessage()
            redacted = redact_secrets(message)
            if redacted != message:
                record.msg, record.args = redacted, None
        # A formatter uses this text where it is set, and does not format the error again.
        if record.exc_info and record.exc_info[0] is not None:
            lines = traceback.format_exception(*record.exc_info)
            text = "".join(lines)
            record.exc_text = redact_secrets(text).rstrip()
        return record


def _write_redacted(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    lines = traceback.format_exception(kind, error, trace)
    text = "".join(lines)
    sys.stderr.write(redact_secrets(text))
