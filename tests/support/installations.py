"""Installations of Assay beside each other: each with a home, a ledger, keys and an MLflow."""

import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from core.files import sha256_of
from core.project import Project
from flows.receive import Receiver
from flows.run.registration import contents_of_version
from flows.send import Packed, pack_version
from flows.signing import sign_own_package
from pipelines.values.evidence import Adapter, Scorecard
from pipelines.values.verdict import Finalist
from registry.ledger.entries import Body, Judged, Registered
from registry.ledger.ledger import Ledger, open_ledger
from registry.ledger.state import LedgerState
from registry.mlflow.home_store import open_store
from registry.mlflow.inbox import Inbox, TransferAnswer
from registry.mlflow.recorded import ModelVersion, Page, Submission
from registry.mlflow.store import Store
from registry.release.environments import FILE
from tests.support import trials
from tests.support.ledgers import WHY, write

MODEL = "letters"


def make_scored_package(scored: Path, folder: Path) -> Path:
    """What a version holds besides weights that answer: its evidence, and the adapter's record."""
    shutil.copytree(scored, folder)
    # Nothing is loaded here, so that the record of an adapter is enough.
    adapter: Adapter = trials.trial().adapter
    adapter.write(folder / "adapter.json")
    return folder


@dataclass(frozen=True)
class Installation:
    """One project with its home."""

    project: Project

    @classmethod
    def make(cls, root: Path, empty_mlflow: Path) -> "Installation":
        """An empty one: nothing is registered, nothing is in its ledger."""
        home = root / ".assay"
        home.mkdir(parents=True)
        shutil.copy(empty_mlflow, home / "mlflow.db")
        return cls(Project(root, home))

    def copy(self, root: Path) -> "Installation":
        """The same ledger and keys elsewhere, as a backup that is put back."""
        shutil.copytree(self.home, root / ".assay")
        return Installation(Project(root, root / ".assay"))

    @property
    def home(self) -> Path:
        return self.project.home

    @cached_property
    def ledger(self) -> Ledger:
        return open_ledger(self.home)

    @cached_property
    def store(self) -> Store:
        return open_store(self.project)

    @property
    def state(self) -> LedgerState:
        return self.ledger.state()

    @property
    def kinds(self) -> list[str]:
        return [entry.body.kind for entry in self.ledger.entries()]

    @property
    def key(self) -> str:
        """The id of its controller's key."""
        (key,) = self.state.controller_keys
        return key.key_id

    def write(self, *bodies: Body) -> int:
        return write(self.ledger, *bodies)

    def register(self, package: Path, *, signs: bool = True) -> ModelVersion:
        """Sign, register and enter a package, as a run does."""
        # A copy: the signature is written into it.
        own = self.home / "own" / sha256_of(package / "verdict.json")[:8]
        shutil.copytree(package, own)
        if signs:
            sign_own_package(self.ledger, own)
        submission = Submission(
            run=self.store.runs.begin(own.name, "a run", {}),
            package=own,
            model=MODEL,
            logical_run=own.name,
            page=Page(description="a version", tags={}),
        )
        version = self.store.register(Finalist.read(own / "verdict.json"), submission)
        contents = contents_of_version(version, own)
        entry = Registered(
            **contents.model_dump(), by="lena", account="5 (lena)", logical_run=WHY
        )
        self.write(entry)
        return version

    def judge(self, version: ModelVersion, verdict: str = "passed") -> int:
        """Enter what `judge` said of it."""
        facts = {
            "model": version.name,
            "version": version.version,
            "package_sha256": version.package_sha256,
            "verdict": verdict,
            "verdict_sha256": WHY,
            "policy_sha256": WHY,
        }
        return self.write(Judged.model_validate(facts))

    def trusts(self, **keys: str) -> None:
        """List installations, each by its name and its key."""
        lines = [f"  {name}: {{ledger_key: '{key}'}}" for name, key in keys.items()]
        text = "\n".join(["receives_from:", *lines, ""])
        (self.project.root / FILE).write_text(text)

    # Transfers.

    def pack(self, into: Path, version: str = "1") -> Packed:
        """The transfer of a version, in a folder."""
        into.mkdir(parents=True)
        return pack_version(self.project, MODEL, version, into)

    @cached_property
    def inbox(self) -> Inbox:
        return Inbox(self.store.uri, self.home / "leases")

    def get(self, folder: Path) -> TransferAnswer:
        """What becomes of a transfer that somebody sends here."""
        # As it is now: tests change what was packed.
        digest = sha256_of(folder / "transfer.json")
        run_id = self.inbox.send("manager", digest, folder)
        self.receive()
        answer = self.inbox.answer(run_id)
        assert answer is not None
        return answer

    def receive(self) -> tuple[str, ...]:
        """One round of its controller."""
        return Receiver(self.project, self.ledger, self.store).receive_all()


def evidence_of(package: Path) -> str:
    """The digest by which a ledger knows the evidence."""
    return Scorecard.read(package / "scorecard.json").content_sha256()
