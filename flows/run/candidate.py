"""What a run is to judge: an adapter that it trains, one of another tool, or a prompt.

All three go the same path. They differ in what puts the candidate into the workspace, and in what
joins the identity of the run's work.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from core.files import digest_of_json
from flows.run.attempt import Attempt


def _nothing(attempt: Attempt) -> None:
    """What follows the verdict on most candidates."""
    del attempt


@dataclass(frozen=True)
class Candidate:
    """Where a run's candidate comes from."""

    title: str
    """What people read on the run's page."""
    make: Callable[[Attempt], None]
    """Puts the candidate where the later stages look for it, once its rows are admitted."""
    brought: Mapping[str, str] = field(default_factory=dict)
    """Digests of what was brought; empty where training makes it from the rows."""
    follow: Callable[[Attempt], None] = _nothing
    """What is asked of it after `screen`, whatever that said."""

    @property
    def tags(self) -> Mapping[str, str]:
        """Another kind than training: new rows are not taken for rows that were trained on."""
        from registry.mlflow.recorded import KIND

        return {KIND: "judge"} if self.brought else {}

    def work(self, work: str) -> str:
        """The work on these rows, for this candidate: by its bytes as they were brought."""
        # Runs that train keep the key that they had before anything could be brought.
        if not self.brought:
            return work
        return digest_of_json({**self.brought, "of": work})
