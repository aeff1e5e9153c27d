"""What happens beside the steps of a training: progress is reported, checkpoints are sealed, a word to stop is heard."""

import json
import threading
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from core.progress import progress_bar
from pipelines.models.checkpoints import best_of, seal

_TOLD = {"loss", "eval_loss", "grad_norm", "learning_rate"}


class AppendProgress(TrainerCallback):
    """One JSON object a step in `progress.jsonl`, and a bar where a person watches."""

    def __init__(self, out: Path) -> None:
        self._out = out

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Show the bar, at the step that training goes on from."""
        self._bar = progress_bar("training", state.max_steps)
        self._advance = self._bar.__enter__()
        self._advance(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Move the bar."""
        self._advance(1)

    def on_log(
        self,
        args: Any,
        state: Any,
        control: Any,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Append the step's figures."""
        kept = {name: entry for name, entry in (logs or {}).items() if name in _TOLD}
        if kept:
            append_progress(
                self._out, {"step": state.global_step, "of": state.max_steps, **kept}
            )

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Take the bar away."""
        self._bar.__exit__(None, None, None)


class SealCheckpoints(TrainerCallback):
    """Writes the digests of each checkpoint once all its files are there."""

    def __init__(self, scratch: Path, training: str) -> None:
        self._scratch = scratch
        self._training = training

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Look for the weights of the best look where the checkpoints are now.

        A checkpoint holds an absolute path, and without that folder the trainer would keep its last weights.
        """
        best = best_of(self._scratch, state.best_global_step)
        state.best_model_checkpoint = None if best is None else str(best)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Seal the checkpoint."""
        seal(self._scratch / f"checkpoint-{state.global_step}", self._training)


class StopWhenTold(TrainerCallback):
    """Ends training after the step that goes on, with its checkpoint. `cut_short`: it did, and training was not at its end by itself.

    The end comes once the checkpoint is whole, after whatever the step's look at the dev rows decided.
    """

    def __init__(self, told: threading.Event) -> None:
        self._told = told
        self.cut_short = False

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Ask for a checkpoint where training was told to stop."""
        control.should_save = control.should_save or self._told.is_set()

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """End training once the checkpoint is whole."""
        if self._told.is_set() and not control.should_training_stop:
            self.cut_short = control.should_training_stop = True


def append_progress(out: Path, entry: dict[str, Any]) -> None:
    """Append one line to `progress.jsonl`; it has a `step`."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / "progress.jsonl").open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(entry) + "\n")
