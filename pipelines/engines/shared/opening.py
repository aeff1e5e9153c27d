"""A loaded base with places for adapters, trusted only where it computes what peft computes.

tuned ─▶ by peft: what two rows give ─▶ peft taken off, places put in ─▶ the same two rows
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch

from core.errors import ServingError
from pipelines.engines.row_model import Rows, SlotsT
from pipelines.engines.shared.engine import Exchangeable, SharedEngine
from pipelines.engines.shared.places import Places
from pipelines.engines.shared.skeleton import Skeleton, adapted_layers_of
from pipelines.engines.shared.stack import Stack
from pipelines.engines.slot_model import Trial, are_alike, open_slots
from pipelines.engines.transformers import ROWS
from pipelines.engines.worker import report_failure
from pipelines.models.language_model import LanguageModel

if TYPE_CHECKING:
    from pipelines.engines.runners import Runner

# Number of the adapter that is tried. None that is attached has it.
_TRIED = 0


@dataclass(frozen=True)
class Proof:
    """What peft computes for two rows, with an adapter and by the base alone."""

    trial: Trial
    # Of both rows, by the adapter that computes them.
    expected: Mapping[int | None, torch.Tensor]
    dtype: torch.dtype

    @classmethod
    def of(cls, tuned: LanguageModel, trial: Trial) -> Self:
        """By a model that has its adapter from peft."""
        with torch.inference_mode():
            with_adapter = trial.logits_alone(tuned)
            with tuned.model.disable_adapter():
                without = trial.logits_alone(tuned)
        expected = {_TRIED: with_adapter, None: without}
        return cls(trial, expected, getattr(torch, tuned.arithmetic))

    def holds_alone(self, language: LanguageModel, places: Places) -> bool:
        """Whether a model with places computes both rows as peft does."""
        with torch.inference_mode():
            for adapter, logits in self.expected.items():
                places.aim([adapter])
                computed = self.trial.logits_alone(language)
                if not are_alike(computed, logits, self.dtype):
                    return False
        return True

    def holds_together(self, rows: Rows[SlotsT]) -> bool:
        """Whether rows of the adapter and of the base are right where they share a step."""
        with torch.inference_mode():
            for adapters in ((_TRIED, None), (None, _TRIED)):
                computed = self.trial.compute_together(
                    rows.model, rows.slots.like(), adapters
                )
                logits = [self.expected[each][row] for row, each in enumerate(adapters)]
                if not are_alike(computed, torch.stack(logits), self.dtype):
                    return False
        return True


@dataclass(frozen=True)
class Prepared:
    """A base with places that are right, and what reads adapters for it."""

    language: LanguageModel
    places: Places
    skeleton: Skeleton
    proof: Proof
    # With the adapter that is tried.
    tried: Stack


def prepare(tuned: LanguageModel, example: Path, trial: Trial) -> Prepared:
    """Put places into a loaded base, in the layers that its adapter changes.

    `example` is that adapter's folder. `ServingError` where the places do not compute what peft
    computes.
    """
    names = adapted_layers_of(tuned.model)
    proof = Proof.of(tuned, trial)
    plain = replace(tuned, model=tuned.model.unload())
    skeleton = Skeleton(plain.model)
    places = Places(plain.model, names)
    tried = places.stack.with_adapter(_TRIED, skeleton.read(example))
    empty = places.stack
    places.stack = tried
    is_right = proof.holds_alone(plain, places)
    places.stack = empty
    places.aim([None])
    if not is_right:
        raise ServingError(
            "This base computes other probabilities with places for adapters than peft does. "
            "Serve each release by itself."
        )
    return Prepared(plain, places, skeleton, proof, tried)


def open_on_transformers(prepared: Prepared) -> SharedEngine:
    """An engine of the loaded weights: many answers at once, or one where rows mix."""
    from pipelines.engines.runners import OneByOne

    language, places = prepared.language, prepared.places
    rows = _open_rows(prepared)
    if rows is not None:
        return open_together(language, rows, places)

    def turn_to(adapter: int | None) -> None:
        places.aim([adapter])

    def open_runner(closing: threading.Event) -> "Runner":
        return OneByOne(language, turn_to, report_failure, closing)

    return _open(language, places, open_runner)


def open_together(
    language: LanguageModel, rows: Rows[Any], places: Exchangeable
) -> SharedEngine:
    """An engine whose answers share each step, by what computes rows."""
    from pipelines.engines.runners import Together

    def open_runner(_: threading.Event) -> "Runner":
        return Together(language.encoder, rows, report_failure, ROWS)

    return _open(language, places, open_runner)


def _open(
    language: LanguageModel,
    places: Exchangeable,
    open_runner: "Callable[[threading.Event], Runner]",
) -> SharedEngine:
    return SharedEngine(language.encoder, language.context_tokens, places, open_runner)


def _open_rows(prepared: Prepared) -> Rows[Any] | None:
    """What computes rows in slots; None where rows of several adapters cannot share a forward."""
    places = prepared.places
    slots = open_slots(prepared.language, places.aim)
    if slots is None:
        return None
    rows = Rows(*slots, switch=None)
    empty = places.stack
    places.stack = prepared.tried
    try:
        is_right = prepared.proof.holds_together(rows)
    # A layer that sees rows in another order.
    except (RuntimeError, ValueError):
        is_right = False
    places.stack = empty
    return Rows(rows.model, rows.slots.like(), switch=None) if is_right else None
