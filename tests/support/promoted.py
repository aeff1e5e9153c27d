"""A judged version under a real `assay up`.

Promoted, disturbed, and looked at until everything agrees again.
"""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from core.errors import AssayError
from core.project import Project
from flows.run.registration import enter_version
from pipelines.values.verdict import Finalist
from registry.ledger.ledger import open_ledger
from registry.ledger.state import ModelState
from registry.mlflow.accounts import service_login
from registry.mlflow.home_store import open_store
from registry.mlflow.recorded import VERDICT, Page, RecordedRun, Submission
from registry.release.following import EndpointState
from registry.release.release import is_at_rest
from serving.client import endpoint_client
from tests.support.journey import Checkout, copy_checkout
from tests.support.processes import children_of, find_process, words_of
from tests.support.running_system import Up, start_up
from tests.support.waiting import SECONDS_AT_MOST
from tests.support.waivers import waive_as_others

MODEL = "letters-tiny"
WAIVED = ("human_rating", "approvals")
SECONDS_TO_SETTLE = SECONDS_AT_MOST
QUESTION = {
    "model": MODEL,
    "max_tokens": 3,
    "messages": [{"role": "user", "content": "12 a"}],
}
Process = subprocess.Popen[str]


def waived_site(recorded: Checkout, root: Path) -> Checkout:
    """A copy in which version 1 may be promoted: what nobody gave yet is waived for an hour."""
    site = copy_checkout(recorded, root)
    for rule in WAIVED:
        waive(site, rule)
    return site


def waive(site: Checkout, rule: str) -> None:
    """Somebody else than the author waives the rule for an hour."""
    waive_as_others(site.home, MODEL, [rule])


def register_again(site: Checkout, scratch: Path) -> None:
    """Register the package of version 1 as that of another run: version 2."""
    store = open_store(Project(site.root, site.home))
    one = store.get_version(MODEL, "1")
    package = store.fetch(one, scratch / "package")
    page = Page(description="the same again", tags={VERDICT: "passed"})
    run = RecordedRun(run_id=one.run_id, verdict="passed")
    submission = Submission(
        run=run, package=package, model=MODEL, logical_run="0" * 64, page=page
    )
    two = store.register(Finalist.read(package / "verdict.json"), submission)
    enter_version(open_ledger(site.home), store, site.home / "packages", two, package)


def model_state(checkout: Checkout) -> ModelState:
    """How the model stands in the ledger."""
    return open_ledger(checkout.home).state().model(MODEL)


def entry_kinds(checkout: Checkout) -> list[str]:
    """Every kind of entry, in order."""
    return [entry.body.kind for entry in open_ledger(checkout.home).entries()]


@dataclass(frozen=True)
class System:
    """Everything runs; MLflow is reached through its server, as a remote user would."""

    up: Up

    @property
    def checkout(self) -> Checkout:
        return self.up.checkout

    def promote(self) -> Process:
        """`assay promote 1` as a process."""
        login = {
            **service_login(self.checkout.home),
            "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{self.up.ports.mlflow}",
        }
        return self.checkout.start(
            "promote", "1", "--model", MODEL, "--reason", "it is better", **login
        )

    def victim(self, name: str, promoting: Process) -> psutil.Process | None:
        """The process that is to be killed.

        None where there is none of that name at this moment.
        """
        pid = (
            promoting.pid
            if name == "promote"
            else self.up.service("endpoint" if name == "engine" else name).pid
        )
        if pid is None:
            return None
        if name != "engine":
            return find_process(pid)
        engines = [child for child in children_of(pid) if "serving" in words_of(child)]
        return max(engines, key=lambda engine: engine.pid, default=None)

    def settled(self) -> ModelState:
        """Wait until services, ledger, endpoint and MLflow agree; gives what they agree on."""
        deadline = time.monotonic() + SECONDS_TO_SETTLE
        while (disagreement := self._apart()) is not None:
            assert self.up.process.poll() is None, self.up.output
            assert time.monotonic() < deadline, f"{disagreement}\n{self.logs()}"
            time.sleep(0.2)
        return model_state(self.checkout)

    def logs(self) -> str:
        """The last words of every service."""
        return "\n".join(
            f"--- {log.name}\n{log.read_text(encoding='utf-8', errors='replace')[-1500:]}"
            for log in (self.checkout.home / "logs").glob("*")
        )

    def answer(self) -> httpx.Response:
        """What the endpoint answers under the model's name."""
        return httpx.post(
            f"http://127.0.0.1:{self.up.ports.endpoint}/v1/chat/completions",
            json=QUESTION,
            timeout=SECONDS_AT_MOST,
        )

    def _apart(self) -> str | None:
        missing = [
            each.name
            for each in self.up.record.services
            if each.state not in ("ready", "done") or not each.answers()
        ]
        if missing:
            return f"not back: {', '.join(missing)}"
        ledger_state = open_ledger(self.checkout.home).state()
        model = ledger_state.model(MODEL)
        try:
            endpoint_state = endpoint_client(self.checkout.home).state()
        except AssayError as error:
            return str(error)
        is_asked = model.wish is not None
        if (
            is_asked
            or not is_at_rest(model)
            or endpoint_state.head != ledger_state.head
        ):
            return f"on its way, or not followed: {model} {endpoint_state}"
        return self._not_as_entered(model, endpoint_state)

    def _not_as_entered(
        self, model: ModelState, endpoint_state: EndpointState
    ) -> str | None:
        route, current = endpoint_state.routes.get(MODEL), model.current
        if current is not None and (
            route is None
            or (route.begun, route.serves_base) != (current.begun, model.serves_base)
        ):
            return f"the endpoint answers with something else: {route}"
        champion = self.checkout.store.holder(MODEL, "champion")
        expected = (
            None if current is None or model.serves_base else current.release.version
        )
        alias_version = None if champion is None else champion.version
        return (
            None
            if alias_version == expected
            else f"champion is {alias_version}, not {expected}"
        )


@contextmanager
def system_of(checkout: Checkout) -> Iterator[System]:
    """`assay up` over the checkout, once all is ready; however it ends, nothing is left."""
    up = start_up(checkout, checkout.root.parent / "up.log")
    try:
        up.wait(lambda: "Ready after" in up.output)
        yield System(up)
    finally:
        up.end()
