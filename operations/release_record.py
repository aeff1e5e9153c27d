"""Releases as runs in Prefect, with the way there from MLflow's pages and back.

Duties of the controller's record: whatever fails here is done again, and no release waits for it.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from core.errors import AssayError
from core.project import Project
from flows.release_runs import DuePage, ReleaseRuns
from flows.run.report import link_to
from flows.schedule.prefect_api import is_configured
from flows.schedule.prefect_runs import put_markdown, run_of
from operations.release_report.publish import (
    FOLDER,
    attach_page,
    file_name,
    make_page,
    report_address,
)
from registry.ledger.ledger import Ledger
from registry.ledger.state import LedgerState
from registry.mlflow.recorded import RELEASE_RUN, ModelVersion
from registry.mlflow.store import Store

if TYPE_CHECKING:
    from flows.judgement import Judgement

_UNREADABLE = (AssayError, OSError, ValueError, LookupError, ArithmeticError)


class ReleaseRecord:
    """What Prefect shows of one project's releases, and what MLflow's pages say of that."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._runs = ReleaseRuns(project.home)

    def show(self, ledger: Ledger, ledger_state: LedgerState) -> tuple[str, ...]:
        """Have Prefect show what is new in the ledger."""
        return self._runs.show(
            ledger,
            ledger_state,
        )

    def link(self, open_store: Callable[[], Store]) -> tuple[str, ...]:
        """Write one version's run on its page in MLflow, and attach its report to both.

        One a round: a report takes seconds, in which other duties wait.
        """
        due = self._runs.memory.due
        if not due or not is_configured():
            return ()
        page = due[0]
        # Before it is tried: one page that fails must not keep the others waiting.
        self._runs.postpone(page)
        store = open_store()
        version = store.known(page.model, page.version)
        # A version that MLflow lost has no page.
        if version is not None:
            store.annotate(version, {RELEASE_RUN: link_to(page.flow_run_id)})
            # On its way there is nothing to report yet.
            if page.is_ended:
                self._attach_report(page, version, store.address)
        self._runs.settle(page)
        return ()

    @property
    def links(self) -> dict[str, str]:
        """Where each version's last run is in Prefect, by `NAME VERSION`."""
        memory = self._runs.memory
        return memory.links

    def _attach_report(
        self, page: DuePage, version: ModelVersion, address: str
    ) -> None:
        """Attach the page of the report to the version's run, and say on both where it is."""
        # Without files of its own a version has no report: it can still be looked at.
        with suppress(*_UNREADABLE):
            judgement = self._judge(page)
            report = make_page(judgement)
            attach_page(judgement, report)
            text = _where_the_report_is(version, address)
            run = run_of(page.flow_run_id)
            put_markdown(
                run,
                "release-report",
                text,
                "the report of the release",
            )

    def _judge(self, page: DuePage) -> "Judgement":
        from flows.judgement import judge_version

        return judge_version(
            self._project,
            page.model,
            page.version,
        )


def _where_the_report_is(version: ModelVersion, address: str) -> str:
    name = file_name(version)
    place = f"`{FOLDER}/{name}` among the artifacts of the MLflow run {version.run_id}"
    report = report_address(version, address)
    # Without a server there are no pages that a link could lead to.
    if report is None:
        return f"The report of the release is {place} at `{address}`.\n"
    pages = f"{address}/#/models/{version.name}/versions/{version.version}"
    return (
        f"[The report of the release]({report}): {place}.\n\n"
        f"[Version {version.version} of {version.name} in MLflow]({pages})\n"
    )
