"""Everything that the page shows, read once."""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from operations.gate_report.fitness import fitness
from operations.gate_report.report import identities_of
from operations.history import History
from operations.origin_text import describe_origin
from registry.release.canary_series import CanaryLook, read_looks
from registry.report.scored import Scored

if TYPE_CHECKING:
    from flows.judgement import Judgement
    from operations.history import HistoryEntry

_OF_THE_MODEL = {"waived"}
"""Kinds of entries that name no version and count for every one of the model."""


@dataclass(frozen=True)
class Facts:
    """A judged version, with its evidence and what the ledger says of it."""

    judgement: "Judgement"
    history: History
    """Entries about the model."""
    made_at: datetime
    home: Path

    @property
    def subject(self) -> str:
        """The version, as a sentence begins."""
        version = self.judgement.version
        return f"Version {version.version} of {version.name}"

    @property
    def sentence(self) -> str:
        """Fit, not yet, or rejected, and by which rules."""
        return fitness(self.subject, self.judgement.verdict)

    @property
    def package(self) -> Path:
        """The version's files on this machine."""
        return self.judgement.package

    @cached_property
    def scored(self) -> Scored:
        """Its scores and answers, as the page of its scorecard shows them."""
        return Scored(self.package, self.subject, called="this version")

    @property
    def identities(self) -> dict[str, str]:
        """Fingerprint and digests of what was judged, and of what it was judged by."""
        scorecard = self.scored.scorecard
        return {
            **identities_of(self.judgement),
            "evidence": scorecard.evidence.sha256,
            "held-out rows": scorecard.held_out_sha256,
            "data": scorecard.dataset_digest,
        }

    @property
    def origin(self) -> tuple[str, ...]:
        """Where the version came from, and who approved it there; empty where it was made here."""
        version = self.judgement.version
        ledger_state = self.judgement.ledger_state
        # None of a version that somebody registered by hand.
        registration = ledger_state.registration(
            version.name,
            version.version,
        )
        return describe_origin(registration)

    @property
    def events(self) -> tuple["HistoryEntry", ...]:
        """The ledger's entries about this version, and waivers for its model, oldest first."""
        version = self.judgement.version.version
        # Entries about the model alone, such as the base that served, belong to no version.
        events = []
        for entry in self.history.entries:
            is_waiver = entry.version is None and entry.kind in _OF_THE_MODEL
            if entry.model is not None and (entry.version == version or is_waiver):
                events.append(entry)
        return tuple(events)

    @property
    def canaries(self) -> dict[int, tuple[CanaryLook, ...]]:
        """What each canary of this version counted, by the entry with which it began."""
        begun = [
            each.generation for each in self.events if each.kind == "release_begun"
        ]
        return {entry: read_looks(self.home, entry) for entry in begun}


def collect_facts(
    judgement: "Judgement",
    history: History,
    home: Path,
    made_at: datetime | None = None,
) -> Facts:
    """The facts of a judgement, as of now unless another time is given."""
    return Facts(
        judgement,
        history,
        made_at or datetime.now(UTC),
        home,
    )
