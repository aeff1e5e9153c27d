"""Report a crashed run once: an automation does so at once, the controller where that failed."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from core.notify import notices, notify
from core.project import Project
from flows.run.report import link_to
from flows.schedule import prefect_api

FLOWS = ("retrain", "rescore")
GRACE = timedelta(minutes=1)
"""How long the automation has before the controller reports a crash.

A Prefect server that was killed in between forgets what its automations waited for.
"""
LOOKS_BACK = timedelta(days=1)
SECONDS_BETWEEN_LOOKS = 30.0
_NOTICES = 10_000


class Crashes:
    """Looks for crashed runs every half minute."""

    def __init__(self, project: Project) -> None:
        self._home = project.home
        self._looked = -SECONDS_BETWEEN_LOOKS

    def watch(self, now: datetime | None = None) -> tuple[str, ...]:
        """Report every run that crashed within a day and was not reported; a sentence for each."""
        if not prefect_api.is_configured():
            return ()
        if time.monotonic() - self._looked < SECONDS_BETWEEN_LOOKS:
            return ()
        self._looked = time.monotonic()
        end = (now or datetime.now(UTC)) - GRACE
        runs = prefect_api.crashed_runs(FLOWS, end - LOOKS_BACK, end)
        if not runs:
            return ()
        texts = [notice.text for notice in notices(self._home, last=_NOTICES)]
        # The notice of a crash ends with the link to its run, which holds the run's id.
        reported = "\n".join(texts)
        return tuple(
            tell_of_crash(
                self._home,
                run.id,
                run.name,
                run.message,
            )
            for run in runs
            if run.id not in reported
        )


def tell_of_crash(home: Path, flow_run_id: str, name: str, message: str) -> str:
    """Tell people of a crashed run, and give the sentence."""
    # The automation's template writes "None" where Prefect has no message.
    why = f" ({message})" if message and message != "None" else ""
    sentence = (
        f"The run {name} crashed{why}. Start it again, or wait for the next scheduled one: "
        "nothing half done counts."
    )
    text = f"{sentence}\nPrefect: {link_to(flow_run_id)}"
    notify(home, "Assay: a run crashed", text)
    return sentence
