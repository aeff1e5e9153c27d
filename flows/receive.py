"""RECEIVING: versions that another installation sends, which the controller here takes in.

    transfer ─ ledger verified ─ bytes verified ─ version in MLflow ─ entry `received`

Nothing is released by this: a release manager of this installation asks for that, and its own
policy judges. Every step may be repeated, so that a kill between two of them costs nothing.
"""

import random
import re
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from core.errors import (
    AssayError,
    BrokenLedger,
    DamagedFile,
    IllegalEntry,
    LedgerError,
    RegistryError,
    TransferRefused,
    first_line,
)
from core.files import digest_of_text
from core.project import Project
from flows.run.registration import contents_of_version
from pipelines.values.verdict import Finalist, read_screen_verdict
from registry.ledger.entries import Body, OriginSeen
from registry.ledger.ledger import Ledger
from registry.ledger.state import LedgerState
from registry.mlflow.inbox import Inbox, TransferAnswer
from registry.mlflow.recorded import KIND, MODEL, ModelVersion, Page, Submission
from registry.mlflow.store import Store
from registry.release.context import ChangeRequest, append
from registry.release.environments import read_environments
from registry.release.package_signature import digest_of_package
from registry.release.transfer import (
    LEDGER,
    PACKAGE,
    RECORD,
    OriginLedger,
    Vouched,
    check_follows,
    entry_of,
    find_revoked,
    find_signer,
    read_origin,
    vouch,
)

ORIGIN = "assay.origin"
"""On a received version's page: the installation that it came from."""
MOST_AT_ONCE = 5
"""Transfers that are looked at in one round."""
_MOST_BYTES = {RECORD: 100_000, LEDGER: 100_000_000, PACKAGE: 20_000_000_000}
"""An entry has about 1 kB, so that a ledger of 100,000 entries can be sent."""
_SECONDS_TO_PAUSE = 60.0
_DAMAGED = (
    "A file of it is not what its name says, or not what was recorded of it. "
    "Send it again with `assay promote --to`."
)


class Pauses:
    """Until when each transfer that had to wait is left alone: it is downloaded at each try."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def begin(self, run_id: str) -> None:
        """Leave this one alone for a minute."""
        self._until[run_id] = time.monotonic() + _SECONDS_TO_PAUSE

    def are_over(self, run_id: str) -> bool:
        """Whether it may be tried again."""
        return time.monotonic() >= self._until.get(run_id, 0.0)


@dataclass(frozen=True)
class Receiver:
    """One installation's ledger and MLflow, and where transfers to it lie."""

    project: Project
    ledger: Ledger
    store: Store
    pauses: Pauses = field(default_factory=Pauses)

    def receive_all(self) -> tuple[str, ...]:
        """Take in or refuse every open transfer; gives a sentence for each.

        `RegistryError` where MLflow does not answer: what is open stays open.
        """
        environments = read_environments(self.project.root)
        trusted = environments.receives_from
        # Most installations receive nothing, and ask MLflow nothing.
        if not trusted:
            return ()
        # Read here first: a fault of this ledger is not one of what was sent.
        self.ledger.state()
        sentences = []
        due = [each for each in self._inbox.list_open() if self.pauses.are_over(each)]
        for run_id in _choose(due):
            sentence = self._receive(run_id)
            sentences.append(sentence)
        return tuple(sentences)

    def _receive(self, run_id: str) -> str:
        try:
            return self._answer(run_id)
        # The sender decides who may write to that run: one that takes no answer is left.
        except RegistryError as error:
            self.pauses.begin(run_id)
            return f"Transfer {run_id} takes no answer: {first_line(error)}"

    def _answer(self, run_id: str) -> str:
        try:
            version = self._take_in(run_id)
        # These say something of what was sent.
        except (BrokenLedger, IllegalEntry) as error:
            return self._refuse(run_id, str(error))
        # No sender's fault: it is tried again, and keeps no other one waiting.
        except (RegistryError, LedgerError, OSError) as error:
            self.pauses.begin(run_id)
            return f"Transfer {run_id} waits: {first_line(error)}"
        # Its sentence names a folder of this machine, and is for whoever runs stages here.
        except DamagedFile:
            return self._refuse(run_id, _DAMAGED)
        except AssayError as error:
            return self._refuse(run_id, str(error))
        except Exception as error:  # noqa: BLE001 - one that nobody can read must not stop the rest
            return self._refuse(run_id, f"It cannot be read ({type(error).__name__}).")
        sentence = f"Version {version.version} of {version.name} was received (transfer {run_id})."
        answer = TransferAnswer(version=version.version, text=sentence)
        self._inbox.close(run_id, answer)
        return sentence

    def _refuse(self, run_id: str, fact: str) -> str:
        # Where a file lies on this machine is no matter of the sender's.
        folder = re.escape(f"{self._scratch}/")
        shown = re.sub(rf"{folder}[^/]+/", "", fact)
        refusal = TransferAnswer(text=shown)
        self._inbox.close(run_id, refusal)
        return f"Transfer {run_id} is refused: {fact}"

    def _take_in(self, run_id: str) -> ModelVersion:
        with tempfile.TemporaryDirectory(dir=self._scratch) as scratch:
            folder = Path(scratch)
            # The ledger first: nothing of a package is downloaded that nobody vouches for.
            for path in (RECORD, LEDGER):
                self._fetch(run_id, path, folder)
            # Read for each one: who was taken off the list sends nothing more.
            environments = read_environments(self.project.root)
            export = folder / LEDGER
            origin = read_origin(export, environments.receives_from)
            # What it revoked counts, whatever becomes of this version.
            see_origin(self.ledger, origin)
            vouched = vouch(folder, origin)
            package = self._fetch(run_id, PACKAGE, folder)
            _check_bytes(package, vouched)
            return self._enter(vouched, package)

    def _enter(self, vouched: Vouched, package: Path) -> ModelVersion:
        """Register the version in MLflow, then hold it in the ledger."""
        # Everything is verified before MLflow holds a version of it.
        signer = find_signer(package, vouched)
        _check_contents(package, vouched)
        version = self._register(vouched, package)
        contents = contents_of_version(version, package)
        ledger_state = self.ledger.state()
        known = ledger_state.registration(version.name, version.version)
        # A kill after the entry must not enter the version twice.
        if known is None or known.made != contents:
            number = version.version
            entry = entry_of(vouched, number, signer)
            append(self.ledger, lambda _: entry)
        return version

    def _register(self, vouched: Vouched, package: Path) -> ModelVersion:
        """One version for one package, however often it is sent."""
        record = vouched.record
        # Of the bytes, so that the same package is found; no run here has such a name.
        logical_run = digest_of_text(f"received {record.model} {record.package_sha256}")
        # A run of another kind: schedules and comparisons look at trainings alone.
        tags = {KIND: "received", MODEL: record.model, ORIGIN: vouched.origin.name}
        finalist = _read_finalist(package)
        run = self.store.runs.begin(
            logical_run, f"received from {vouched.origin.name}", tags
        )
        page = Page(description=_describe(vouched), tags={ORIGIN: vouched.origin.name})
        submission = Submission(
            run=run,
            package=package,
            model=record.model,
            logical_run=logical_run,
            page=page,
            # Under review is what was trained here.
            takes_challenger=False,
        )
        version = self.store.register(finalist, submission)
        # Ended last, so that a kill before it shows as a run that is unfinished.
        self.store.runs.end(run.run_id, "FINISHED")
        return version

    def _fetch(self, run_id: str, path: str, folder: Path) -> Path:
        most_bytes = _MOST_BYTES[path]
        fetched = self._inbox.fetch(
            run_id,
            path,
            folder,
            most_bytes,
        )
        # It could never be read, and would be tried in every round.
        if fetched.is_dir() != (path == PACKAGE):
            raise TransferRefused(
                f"A transfer holds the files {RECORD} and {LEDGER} and the folder {PACKAGE}, and "
                f"{path} is something else. Send it again."
            )
        return fetched

    @property
    def _scratch(self) -> Path:
        """On the home's own disk: a package may be larger than the system's folder for scratch."""
        scratch = self.project.home / "scratch"
        scratch.mkdir(parents=True, exist_ok=True)
        return scratch

    @cached_property
    def _inbox(self) -> Inbox:
        uri = self.store.uri
        # Beside the locks of everything else that is done at this MLflow.
        locks = self.project.home / "leases"
        return Inbox(uri, locks)


def _choose(open_transfers: Sequence[str]) -> Sequence[str]:
    """Those of this round: whoever sends many holds up no other duty of the controller."""
    if len(open_transfers) <= MOST_AT_ONCE:
        return open_transfers
    # By chance: the oldest may be some that never take an answer.
    return random.sample(open_transfers, MOST_AT_ONCE)


def see_origin(
    ledger: Ledger, origin: OriginLedger, order: ChangeRequest | None = None
) -> tuple[str, ...]:
    """Remember how far the ledger of another installation goes, and what it revoked by now.

    Gives the adapters that came from there and are revoked there. `TransferRefused` where it is an
    older copy than was read, or another ledger.
    """
    check_follows(origin, ledger.state())
    revoked = find_revoked(origin, ledger.state())
    # Sent twice, or two versions out of one export: there is no news.
    if ledger.state().origins.get(origin.name) == origin.head:
        return revoked

    def seen(_: LedgerState) -> Body:
        return OriginSeen(
            origin=origin.head,
            revoked_adapters=revoked,
            by=None if order is None else order.by,
            account=None if order is None else order.account,
        )

    try:
        append(ledger, seen)
    except IllegalEntry:
        # Somebody read the same export at the same time.
        if ledger.state().origins.get(origin.name) != origin.head:
            raise
    return revoked


def describe_origin_revocations(ledger_state: LedgerState) -> tuple[str, ...]:
    """A sentence for each version here that its origin revoked, and that is not revoked here."""
    sentences = []
    for registration in ledger_state.registrations.values():
        made, received = registration.made, registration.received
        seen = ledger_state.revoked_in_origin.get(made.adapter_sha256)
        is_revoked_here = made.version in ledger_state.model(made.model).revoked
        # Once it is revoked here too, nobody has to decide any more.
        if received is None or seen is None or is_revoked_here:
            continue
        sentences.append(
            f"{made.model} version {made.version} was revoked in {received.origin.name}, where it "
            f"came from (entry {seen}): no release of it begins. What serves goes on serving "
            f"until somebody types `assay revoke {made.version} --model {made.model} --reason …`."
        )
    return tuple(sentences)


def _check_bytes(package: Path, vouched: Vouched) -> None:
    digest = digest_of_package(package)
    if digest != vouched.record.package_sha256:
        raise TransferRefused(
            f"The package of {vouched.record.model} is {digest[:12]}, and the ledger of "
            f"{vouched.origin.name} vouches for {vouched.record.package_sha256[:12]}. "
            "Send it again."
        )


def _check_contents(package: Path, vouched: Vouched) -> None:
    """The files say what they are, and so does the ledger there: both must agree."""
    made = vouched.registration.made
    there = ModelVersion(
        name=made.model,
        version=made.version,
        run_id="",
        package_sha256=made.package_sha256,
        logical_run="",
    )
    if contents_of_version(there, package) != made:
        raise TransferRefused(
            f"The package of {made.model} holds other evidence than entry "
            f"{vouched.registration.generation} of {vouched.origin.name} names. Send it again."
        )


def _read_finalist(package: Path) -> Finalist:
    verdict = read_screen_verdict(package / "verdict.json")
    if not isinstance(verdict, Finalist):
        raise TransferRefused("The package never passed `screen`. Send one that did.")
    return verdict


def _describe(vouched: Vouched) -> str:
    """The version's page here, on which the desk writes what holds of it."""
    origin = vouched.origin
    head = origin.head
    # The beginning of the id is enough to see which one is meant.
    shown = head.ledger_id[:12]
    ledger = f"ledger {shown}, up to entry {head.generation}"
    made = vouched.registration.made
    return (
        f"Received from {origin.name}: version {made.version} of {made.model} there, "
        f"entry {vouched.registration.generation} of its {ledger}."
    )
