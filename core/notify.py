"""Telling people: a line in `HOME/notices.jsonl` and on the log always, and a message wherever `ASSAY_NOTIFY` says."""

import json
import logging
import os
import warnings
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from pydantic import AwareDatetime, ValidationError

from core.address import without_secrets
from core.settings import Settings
from core.value import Value

SECONDS_TO_SEND = 10
_LOG = logging.getLogger("assay.notices")


class Notice(Value):
    """What was told, and whether it reached every address; `is_sent` is None where there is no address."""

    at: AwareDatetime
    title: str
    text: str
    is_sent: bool | None = None


def notify(home: Path, title: str, text: str, *, sends: bool = True) -> Notice:
    """Tell it and say whether it got through. An address that is dead, slow or misspelt never fails what had something to tell."""
    title, text = without_secrets(title), without_secrets(text)
    addresses = Settings().notify.split() if sends else []
    is_sent = _send(addresses, title, text) if addresses else None
    notice = Notice(at=datetime.now(UTC), title=title, text=text, is_sent=is_sent)
    _LOG.warning("%s: %s", title, text)
    _keep(notices_file(home), notice)
    return notice


def notices_file(home: Path) -> Path:
    """Where every notice is kept."""
    return home / "notices.jsonl"


def notices(home: Path, last: int = 20) -> tuple[Notice, ...]:
    """The latest notices, oldest first; a line that is half written or of another version is left out."""
    path = notices_file(home)
    lines = (
        path.read_text(encoding="utf-8", errors="replace").splitlines()[-last:]
        if path.is_file()
        else []
    )
    found = (_parsed(line) for line in lines)
    return tuple(notice for notice in found if notice is not None)


def _send(addresses: Sequence[str], title: str, text: str) -> bool:
    """Through Apprise. Addresses carry passwords, so what it has to say of them goes nowhere."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Apprise's own, about Python's next versions
        return _sent(addresses, title, text)


def _sent(addresses: Sequence[str], title: str, text: str) -> bool:
    try:
        import apprise

        logging.getLogger("apprise").setLevel(logging.CRITICAL)
        asset = apprise.AppriseAsset(app_id="Assay", app_desc="Assay", async_mode=False)
        target = apprise.Apprise(asset=asset)
        is_known = [bool(target.add(_with_timeout(address))) for address in addresses]
        return bool(target.notify(title=title, body=text)) and all(is_known)
    except Exception as error:  # noqa: BLE001 - whatever a plug-in of Apprise raises, the run goes on
        _LOG.warning("A notice was not sent (%s).", type(error).__name__)
        return False


def _with_timeout(address: str) -> str:
    """Apprise waits as long as the address says: bound it where the person did not."""
    if "cto=" in address or "rto=" in address:
        return address
    return f"{address}{'&' if '?' in address else '?'}cto={SECONDS_TO_SEND}&rto={SECONDS_TO_SEND}"


def _keep(path: Path, notice: Notice) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "a", encoding="utf-8") as lines:
            lines.write(
                json.dumps(notice.model_dump(mode="json"), ensure_ascii=False) + "\n"
            )
    except OSError as error:
        _LOG.warning("%s cannot be written (%s).", path, error.strerror)


def _parsed(line: str) -> Notice | None:
    try:
        return Notice.model_validate_json(line)
    except ValidationError:
        return None
