"""What happens beside the steps of a training.

Progress is reported, checkpoints are sealed, and a request to stop is obeyed.
"""

import json
import threading
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from core.progress import progress_bar
from pipelines.models.checkpoints import find_best, seal

_REPORTED = {"loss", "eval_loss", "grad_norm", "learning_rate"}


class AppendProgress(TrainerCallback):
    """One JSON object a step in `progress.jsonl`, and a bar where a person watches."""

    def __init__(self, out: Path) -> None:
        self._out = out

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Show the bar, at the step that training resumes from."""
        # Opened and closed by hand: trainer callbacks have no block to put it around.
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
        figures = {
            name: figure for name, figure in (logs or {}).items() if name in _REPORTED
        }
        # The summary at the end of training has none of these: no line for it.
        if not figures:
            return
        entry = {
            "step": state.global_step,
            "of": state.max_steps,
            **figures,
        }
        append_progress(self._out, entry)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Take the bar away."""
        self._bar.__exit__(None, None, None)


class SealCheckpoints(TrainerCallback):
    """Writes the digests of each checkpoint once all its files are there."""

    def __init__(self, scratch: Path, training: str) -> None:
        self._scratch = scratch
        self._training = training

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Look for the weights of the best look where the checkpoints are now."""
        # A checkpoint holds an absolute path: without that folder the trainer would keep
        # its last weights.
        best = find_best(self._scratch, state.best_global_step)
        if best is None:
            state.best_model_checkpoint = None
        else:
            state.best_model_checkpoint = str(best)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Seal the checkpoint."""
        name = f"checkpoint-{state.global_step}"
        checkpoint = self._scratch / name
        seal(checkpoint, self._training)


class StopOnRequest(TrainerCallback):
    """Ends training after the current step, with its checkpoint.

    `is_cut_short`: this callback ended it before training ended by itself. The end comes once
    the checkpoint is whole, after whatever the step's look at the dev rows decided.
    """

    def __init__(self, stop_request: threading.Event) -> None:
        self._stop_request = stop_request
        self.is_cut_short = False

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Ask for a checkpoint where training has to stop."""
        if self._stop_request.is_set():
            control.should_save = True

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """End training once the checkpoint is whole."""
        # Early stopping may have ended it in this very step: then nothing is cut short.
        if self._stop_request.is_set() and not control.should_training_stop:
            self.is_cut_short = True
            control.should_training_stop = True


def append_progress(out: Path, entry: dict[str, Any]) -> None:
    """Append one line to `progress.jsonl`; `entry` has a `step`."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / "progress.jsonl"
    line = json.dumps(entry)
    # Appended: a training that is resumed continues the same file.
    with path.open("a", encoding="utf-8") as lines:
        lines.write(line + "\n")
