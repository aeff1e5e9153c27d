"""Notices to people: always a line in `HOME/notices.jsonl` and in the log.

Where `ASSAY_NOTIFY` names addresses, also a message to each of them.
"""

import json
import logging
import os
import warnings
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from pydantic import AwareDatetime, ValidationError

from core.address import redact_secrets
from core.settings import Settings
from core.value import Value

SECONDS_TO_SEND = 10
_LOG = logging.getLogger("assay.notices")


class Notice(Value):
    """A notice, and whether it reached every address; `is_sent` is None where there is none."""

    at: AwareDatetime
    title: str
    text: str
    is_sent: bool | None = None


def notify(home: Path, title: str, text: str, *, sends: bool = True) -> Notice:
    """Keep, log and send a notice.

    Never raises: an address that is dead, slow or misspelt must not fail the work that notifies.
    """
    title = redact_secrets(title)
    text = redact_secrets(text)
    addresses = Settings().notify.split() if sends else []
    is_sent = _send(addresses, title, text) if addresses else None
    notice = Notice(
        at=datetime.now(UTC),
        title=title,
        text=text,
        is_sent=is_sent,
    )
    _LOG.warning("%s: %s", title, text)
    _keep(notices_file(home), notice)
    return notice


def notices_file(home: Path) -> Path:
    """Where every notice is kept."""
    return home / "notices.jsonl"


def notices(home: Path, last: int = 20) -> tuple[Notice, ...]:
    """The latest notices, oldest first.

    A line that is half written, or of another version of Assay, is left out.
    """
    path = notices_file(home)
    if not path.is_file():
        return ()
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    parsed = (_parse(line) for line in lines[-last:])
    return tuple(notice for notice in parsed if notice is not None)


def _send(addresses: Sequence[str], title: str, text: str) -> bool:
    """Whether every address took the message."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Apprise's own, about Python's next versions
        return _send_through_apprise(addresses, title, text)


def _send_through_apprise(addresses: Sequence[str], title: str, text: str) -> bool:
    try:
        import apprise

        # Addresses hold passwords, and Apprise logs them.
        logging.getLogger("apprise").setLevel(logging.CRITICAL)
        asset = apprise.AppriseAsset(app_id="Assay", app_desc="Assay", async_mode=False)
        target = apprise.Apprise(asset=asset)
        is_known = [bool(target.add(_with_timeout(address))) for address in addresses]
        is_sent = bool(target.notify(title=title, body=text))
        return is_sent and all(is_known)
    except Exception as error:  # noqa: BLE001 - a plug-in may raise anything; the run continues
        _LOG.warning("A notice was not sent (%s).", type(error).__name__)
        return False


def _with_timeout(address: str) -> str:
    """Bound how long Apprise waits for a connection and an answer, unless the address does."""
    if "cto=" in address or "rto=" in address:
        return address
    mark = "&" if "?" in address else "?"
    limits = f"cto={SECONDS_TO_SEND}&rto={SECONDS_TO_SEND}"
    return f"{address}{mark}{limits}"


def _keep(path: Path, notice: Notice) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # O_APPEND: lines of two processes at once do not mix. Only the owner may read them.
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        document = notice.model_dump(mode="json")
        line = json.dumps(document, ensure_ascii=False)
        with os.fdopen(descriptor, "a", encoding="utf-8") as lines:
            lines.write(f"{line}\n")
    except OSError as error:
        _LOG.warning("%s cannot be written (%s).", path, error.strerror)


def _parse(line: str) -> Notice | None:
    try:
        return Notice.model_validate_json(line)
    # Half written, as at the end of a full disk, or of another version.
    except ValidationError:
        return None
