"""A loaded base with places for adapters, trusted only where it computes what peft computes."""

import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from core.errors import ServingError
from pipelines.models.language_model import LanguageModel
from serving.engines.shared.engine import SharedEngine
from serving.engines.shared.places import Places
from serving.engines.shared.skeleton import Skeleton, adapted_layers_of
from serving.engines.slot_model import Trial, are_alike, open_slots
from serving.engines.slots import Slots
from serving.engines.transformers import ROWS
from serving.engines.worker import report_failure

if TYPE_CHECKING:
    from serving.engines.row_model import RowModel
    from serving.engines.runners import Runner

_SHORT, _LONG = 5, 11
# Of the adapter that is tried; none that is attached has it.
_TRIED = 0


@dataclass(frozen=True)
class Opened:
    """An engine without an adapter, and what reads adapters for it."""

    engine: SharedEngine
    skeleton: Skeleton


def open_on_transformers(tuned: LanguageModel, example: Path) -> Opened:
    """Put places into a loaded base, for the layers that its adapter changes.

    `example` is that adapter's folder. `ServingError` where rows computed in those places are not
    those that peft computes.
    """
    trial = Trial.of(tuned, short=_SHORT, long=_LONG)
    names = adapted_layers_of(tuned.model)
    expected = _by_peft(tuned, trial)
    plain = replace(tuned, model=tuned.model.unload())
    skeleton = Skeleton(plain.model)
    places = Places(plain.model, names)
    adapter = skeleton.read(example)
    empty = places.stack
    places.stack = empty.with_adapter(_TRIED, adapter)
    slots = open_slots(plain, places.aim)
    with torch.inference_mode():
        _check_alone(plain, places, trial, expected)
        if slots is not None and not _is_right_together(*slots, trial, expected, plain):
            slots = None
    places.stack = empty
    places.aim([None])

    def open_runner(closing: threading.Event) -> "Runner":
        from serving.engines.row_model import Rows
        from serving.engines.runners import OneByOne, Together

        if slots is None:
            return OneByOne(
                plain,
                lambda adapter: places.aim([adapter]),
                report_failure,
                closing,
            )
        rows = Rows(slots[0], slots[1].like(), switch=None)
        return Together(plain.encoder, rows, report_failure, ROWS)

    engine = SharedEngine(plain.encoder, plain.context_tokens, places, open_runner)
    return Opened(engine, skeleton)


def _by_peft(tuned: LanguageModel, trial: Trial) -> dict[int | None, torch.Tensor]:
    """Logits behind the short and the long row, with the adapter and without."""
    with torch.inference_mode():
        with_adapter, _ = trial.compute_alone(tuned)
        with tuned.model.disable_adapter():
            without, _ = trial.compute_alone(tuned)
    return {_TRIED: with_adapter, None: without}


def _check_alone(
    language: LanguageModel,
    places: Places,
    trial: Trial,
    expected: dict[int | None, torch.Tensor],
) -> None:
    dtype = getattr(torch, language.precision)
    for adapter, logits in expected.items():
        places.aim([adapter])
        computed, _ = trial.compute_alone(language)
        if not are_alike(computed, logits, dtype):
            raise ServingError(
                "This base computes other probabilities with places for adapters than peft "
                "does. Serve each release by itself."
            )


def _is_right_together(
    model: "RowModel[Slots]",
    slots: Slots,
    trial: Trial,
    expected: dict[int | None, torch.Tensor],
    language: LanguageModel,
) -> bool:
    """Whether a row with the adapter and one without are right where they share a step."""
    dtype = getattr(torch, language.precision)
    for adapters in ((_TRIED, None), (None, _TRIED)):
        try:
            computed = trial.compute_together(model, slots, adapters)
        except (RuntimeError, ValueError):
            return False
        rows = [expected[adapter][row] for row, adapter in enumerate(adapters)]
        if not are_alike(computed, torch.stack(rows), dtype):
            return False
    return True
