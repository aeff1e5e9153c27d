"""What any library logs, without the secrets of this process's settings."""

import logging
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any

from core.address import without_secrets


def keep_secrets_out_of_logs() -> None:
    """What anything logs, and a traceback that nobody catches: libraries tell of the addresses that they were given."""
    if getattr(logging.getLogRecordFactory(), "_keeps_secrets", False):
        return
    logging.setLogRecordFactory(_KeepingSecrets(logging.getLogRecordFactory()))
    sys.excepthook = _told_without_secrets


class _KeepingSecrets:
    """Makes log records as before, and takes secrets out of their texts."""

    _keeps_secrets = True

    def __init__(self, before: Callable[..., logging.LogRecord]) -> None:
        self._before = before

    def __call__(self, *given: Any, **named: Any) -> logging.LogRecord:
        record = self._before(*given, **named)
        with suppress(
            Exception
        ):  # arguments that do not fit are told by logging itself
            said = record.getMessage()
            if without_secrets(said) != said:
                record.msg, record.args = without_secrets(said), None
        if record.exc_info and record.exc_info[0] is not None:
            record.exc_text = without_secrets(
                "".join(traceback.format_exception(*record.exc_info))
            ).rstrip()
        return record


def _told_without_secrets(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    sys.stderr.write(
        without_secrets("".join(traceback.format_exception(kind, error, trace)))
    )
