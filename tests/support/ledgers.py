"""Ledgers for tests: bodies, whole releases, and real signed entries without a database.

A function that builds a body has the name of its kind of entry, such as `judged` and `begun`.
"""

import hashlib
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from core.errors import StaleGeneration
from pipelines.values.serving_spec import ServingSpec
from registry.ledger.chain import follow, signed_entry
from registry.ledger.entries import (
    Adopted,
    Body,
    Entry,
    Frozen,
    Judged,
    Opened,
    Registered,
    Release,
    ReleaseBegun,
    ReleaseCompleted,
    ReleaseSwitched,
    RolledBack,
    Unfrozen,
    VersionContents,
)
from registry.ledger.keys import SigningKey
from registry.ledger.ledger import Ledger, open_ledger
from registry.ledger.state import LedgerState

MODEL, WHY, START = "letters", "0" * 64, datetime(2026, 11, 1, 12, tzinfo=UTC)
SPEC = ServingSpec(
    base_digest="b" * 64,
    adapter_sha256="a" * 64,
    chat_template_sha256=None,
    engine="transformers",
    engine_version="5",
    precision="float32",
    default_max_tokens=16,
)


def tamper(home: Path, *statements: str) -> None:
    """What somebody does who owns the file: drop the triggers, then change entries."""
    file = home / "ledger.db"
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        for trigger in ("update", "delete", "replace"):
            connection.execute(f"DROP TRIGGER IF EXISTS entries_no_{trigger}")
        for statement in statements:
            connection.execute(statement)


class Chain:
    """A ledger in memory: real entries, signed by a real key, followed one by one."""

    def __init__(self, ledger_id: str = "1" * 32) -> None:
        self.key = SigningKey.of(Ed25519PrivateKey.generate())
        self.entries: list[Entry] = []
        self.ledger_state = self._add(
            Opened(ledger_id=ledger_id, key=self.key.public), START
        )

    def add(
        self, *bodies: Body, later: timedelta = timedelta(seconds=1)
    ) -> LedgerState:
        """Add them; the first that does not follow is an `IllegalEntry`."""
        for body in bodies:
            self.ledger_state = self._add(body, self.ledger_state.at + later)
        return self.ledger_state

    def _add(self, body: Body, at: datetime) -> LedgerState:
        entry = signed_entry(
            body, at, self.ledger_state if self.entries else None, self.key
        )
        ledger_state = follow(self.ledger_state if self.entries else None, (entry,))
        self.entries.append(entry)
        return ledger_state

    @property
    def last(self) -> int:
        """Generation of the newest entry."""
        return len(self.entries)

    def release(
        self, version: str = "1", model: str = MODEL, adapter_sha256: str | None = None
    ) -> int:
        """Judge, begin, switch and complete; gives the generation at which it began."""
        self.add(judged(version, model))
        self.add(begun(self.last, version, model, adapter_sha256=adapter_sha256))
        at = self.last
        self.add(ReleaseSwitched(begun=at), ReleaseCompleted(begun=at))
        return at


def adapter(version: str, model: str = MODEL) -> str:
    """The digest of a version's adapter: each has its own."""
    return hashlib.sha256(f"{model} {version}".encode()).hexdigest()


def judged(
    version: str = "1",
    model: str = MODEL,
    verdict: str = "passed",
    waivers: tuple[int, ...] = (),
    adapter_sha256: str | None = None,
    registration: int | None = None,
) -> Judged:
    return Judged.model_validate(
        {
            "model": model,
            "version": version,
            "package_sha256": package(version),
            "verdict": verdict,
            "verdict_sha256": WHY,
            "policy_sha256": WHY,
            "waivers": waivers,
            "adapter_sha256": adapter_sha256,
            "registration": registration,
        }
    )


def made(version: str = "1", model: str = MODEL) -> VersionContents:
    """What the versions of `judged` and `begun` consist of."""
    digests = {"evidence_sha256": WHY, "verdict_sha256": WHY, "policy_sha256": WHY}
    package_sha256 = package(version)
    return VersionContents(
        model=model,
        version=version,
        package_sha256=package_sha256,
        adapter_sha256=adapter(version, model),
        **digests,
    )


def registered(version: str = "1", model: str = MODEL) -> Registered:
    return Registered(
        **made(version, model).model_dump(),
        by="lena",
        account="5 (lena)",
        logical_run=WHY,
    )


def adopted(version: str = "1", model: str = MODEL) -> Adopted:
    return Adopted(
        **made(version, model).model_dump(),
        by="olga",
        account="7 (olga)",
        reason_sha256=WHY,
    )


def begun(
    by_verdict: int,
    version: str = "1",
    model: str = MODEL,
    spec: ServingSpec = SPEC,
    adapter_sha256: str | None = None,
) -> ReleaseBegun:
    spec = spec.with_adapter(adapter_sha256 or adapter(version, model))
    release = Release(
        model=model,
        version=version,
        package_sha256=package(version),
        spec=spec,
        known_answers_share=0.9,
    )
    return ReleaseBegun(
        by="rita", reason_sha256=WHY, release=release, judged=by_verdict
    )


def package(version: str) -> str:
    return version.rjust(64, "c")


def frozen(by: str = "olga") -> Frozen:
    return Frozen(by=by, reason_sha256=WHY)


def unfrozen(by: str = "olga") -> Unfrozen:
    return Unfrozen(by=by, reason_sha256=WHY)


def rolled_back(to: int) -> RolledBack:
    return RolledBack(by="olga", reason_sha256=WHY, model=MODEL, to=to)


def write(ledger: Ledger, *bodies: Body) -> int:
    """Append the entries, and give the generation of the last one."""
    for body in bodies:
        ledger.append(body, ledger.state())
    return ledger.state().head.generation


def judgement_of(release: Release, verdict: str = "passed") -> Judged:
    """The verdict on what a release serves."""
    facts = {
        "model": release.model,
        "version": release.version,
        "package_sha256": release.package_sha256,
        "verdict": verdict,
        "verdict_sha256": WHY,
        "policy_sha256": WHY,
    }
    return Judged.model_validate(facts)


def begin_release(
    ledger: Ledger, release: Release, by: str = "ann", reason_sha256: str = WHY
) -> int:
    """Judge and begin; gives the generation at which it began."""
    generation = write(ledger, judgement_of(release))
    beginning = ReleaseBegun(
        release=release, judged=generation, by=by, reason_sha256=reason_sha256
    )
    return write(ledger, beginning)


def complete_release(ledger: Ledger, begun: int) -> int:
    """Switch and complete a release that has begun."""
    return write(ledger, ReleaseSwitched(begun=begun), ReleaseCompleted(begun=begun))


def append_released(ledger: Ledger, version: str = "1") -> LedgerState:
    """The four entries of a whole release."""
    generation = write(ledger, judged(version))
    complete_release(ledger, write(ledger, begun(generation, version)))
    return ledger.state()


def append_turns(home: Path, name: str, turns: int) -> list[int]:
    """Freeze or unfreeze that many times, against others who do the same.

    Gives the generations that were ours.
    """
    ledger, won = open_ledger(home), list[int]()
    while len(won) < turns:
        ledger_state = ledger.state()
        try:
            written = ledger.append(
                unfrozen(name) if ledger_state.frozen else frozen(name), ledger_state
            )
        except StaleGeneration:
            continue
        won.append(written.head.generation)
    return won


def ledger_id_after_opening(home: Path) -> str:
    return open_ledger(home).state().head.ledger_id
