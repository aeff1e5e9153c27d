"""What happens beside the steps of a training: its progress is told, and a word to stop is heard."""

import json
import threading
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from pipelines.progress import progress_bar

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

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        """Append the step's figures."""
        self._out.mkdir(parents=True, exist_ok=True)
        kept = {name: entry for name, entry in (logs or {}).items() if name in _TOLD}
        if kept:
            with (self._out / "progress.jsonl").open("a", encoding="utf-8") as lines:
                lines.write(json.dumps({"step": state.global_step, "of": state.max_steps, **kept}) + "\n")

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Take the bar away."""
        self._bar.__exit__(None, None, None)


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
