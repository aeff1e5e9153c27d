"""Keep MLflow's webhook pointing at the controller's doorbell: a duty of its record.

Where MLflow cannot reach this machine, or keeps no webhooks for us, the timer does without.
"""

import json
import time
from pathlib import Path
from urllib.parse import urlsplit

from core.errors import RegistryError, first_line
from core.settings import Settings
from registry.mlflow.store import Store
from registry.release.doorbell import address_file, bell_secret

SECONDS_BETWEEN_LOOKS = 60.0
_THIS_MACHINE = frozenset({"127.0.0.1", "localhost", "::1"})
_TIMER = "The controller's timer looks for what was asked there."


class WebhookDuty:
    """The webhook of one home, looked after once a minute and whenever the doorbell has moved."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._looked: float | None = None
        self._url = ""
        self._said = ""

    def keep(self, store: Store) -> tuple[str, ...]:
        """Register the webhook where it is missing; a sentence where that changes or fails."""
        # Without a server nobody could ring.
        if not store.address.startswith("http"):
            return ()
        url = self._doorbell_url(store.address)
        if not url:
            return self._say(
                f"MLflow at {store.address} rings nobody: ASSAY_DOORBELL_URL says no address at "
                f"which it could reach this machine. {_TIMER}"
            )
        if url == self._url and self._has_just_looked:
            return ()
        self._looked, self._url = time.monotonic(), url
        # A refusal is asked for again after a while: somebody may have given the right to it.
        try:
            has_changed = store.webhooks.keep(url, bell_secret(self._home))
        except RegistryError as error:
            fact = first_line(error)
            return self._say(f"MLflow keeps no webhook for Assay: {fact} {_TIMER}")
        if not has_changed:
            return ()
        return self._say(f"MLflow at {store.address} rings the controller at {url}.")

    def _doorbell_url(self, mlflow: str) -> str:
        """Where MLflow can ring; empty where nobody says so."""
        configured = Settings().doorbell_url
        if configured:
            return configured
        if urlsplit(mlflow).hostname not in _THIS_MACHINE:
            return ""
        try:
            text = address_file(self._home).read_text(encoding="utf-8")
            own = json.loads(text)["url"]
        # The controller says so when it listens; the next round looks again.
        except (OSError, ValueError, KeyError, TypeError):
            return ""
        return f"{own}/doorbell"

    @property
    def _has_just_looked(self) -> bool:
        if self._looked is None:
            return False
        seconds = time.monotonic() - self._looked
        return seconds < SECONDS_BETWEEN_LOOKS

    def _say(self, sentence: str) -> tuple[str, ...]:
        """The sentence, unless it was the last one."""
        if sentence == self._said:
            return ()
        self._said = sentence
        return (sentence,)
