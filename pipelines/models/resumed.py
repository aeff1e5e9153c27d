"""What a system is asked beside the prompts that judge it, found again after a kill.

Resumed(language, system, weights, kept) ─ answers(…) ─► kept/SYSTEM.WHAT.answers
                                         ─ losses(…)  ─► kept/SYSTEM.WHAT.losses
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import IncompleteGeneration
from core.files import digest_of_json, digest_of_text
from core.progress import progress_bar
from pipelines.models.asked_rows import Generated, Sampling, TokenIds
from pipelines.models.journal import Journal
from pipelines.models.kept_answers import KeptAnswers
from pipelines.models.language_model import (
    LanguageModel,
    generate,
    generate_into,
    measure_completion_losses,
    measure_losses_into,
)


@dataclass(frozen=True)
class Resumed:
    """One system's weights, and where its results are on their way; None: nowhere."""

    language: LanguageModel
    system: str
    weights: str
    """Digest of base and adapter: results of other weights are of no use."""
    kept: Path | None = None

    def answers(
        self,
        what: str,
        prompts: Sequence[TokenIds],
        *,
        max_new_tokens: int,
        batch_size: int,
        sampling: Sampling | None = None,
    ) -> tuple[Generated, ...]:
        """Answers in the order of the prompts, which are token ids.

        `IncompleteGeneration` where one is missing. `what` names the questions, for people and as
        part of a file's name.
        """
        count = len(prompts)
        settings: dict[str, Any] = {
            "max_new_tokens": max_new_tokens,
            "batch_size": batch_size,
            "sampling": sampling,
        }
        with progress_bar(f"{what}, {self.system}", count) as advance:
            if self.kept is None:
                answers = generate(self.language, prompts, advance=advance, **settings)
            else:
                key = self._key(prompts, repr(settings))
                kept = KeptAnswers(self.kept / self._place(what, "answers"), key)
                generate_into(kept, self.language, prompts, advance=advance, **settings)
                answers = tuple(kept.read(place) for place in range(len(kept)))
        # Counted as failed, a missing answer would look like a worse model.
        if len(answers) != count:
            raise IncompleteGeneration(
                f"{self.system} answered {len(answers)} of {count} {what}. Run again."
            )
        return answers

    def losses(
        self,
        what: str,
        rows: Sequence[tuple[TokenIds, TokenIds]],
        *,
        batch_size: int,
    ) -> tuple[float, ...]:
        """Summed loss in nats of each (prompt, completion), in the order of `rows`."""
        with progress_bar(f"{what}, {self.system}", len(rows)) as advance:
            if self.kept is None:
                return measure_completion_losses(
                    self.language, rows, batch_size=batch_size, advance=advance
                )
            key = self._key(rows, f"batch_size {batch_size}")
            kept = Journal(self.kept / self._place(what, "losses"), key)
            measure_losses_into(
                kept, self.language, rows, batch_size=batch_size, advance=advance
            )
        return tuple(float(kept.read(place)) for place in range(len(rows)))

    def _place(self, what: str, kind: str) -> Path:
        """Where results are kept, in the folder that is given for them."""
        # By digest: a canary's name is a person's, and may be no name of a file.
        name = digest_of_text(what)[:16]
        return Path(f"{self.system}.{name}.{kind}")

    def _key(self, rows: Sequence[Any], settings: str) -> str:
        document = {
            "weights": self.weights,
            "settings": settings,
            # Another device rounds otherwise, and other batches may, too.
            "device": self.language.device,
            "engine": self.language.computed_by,
            "precision": self.language.precision,
            "batching": self.language.batching.value,
            "rows": rows,
        }
        return digest_of_json(document)
