"""Real training of a two-layer model on a few rows, in a second.

`python -m tests.support.workshop BASE FOLDER ROOT NAME SETTINGS` trains in a process of its own.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.value import FileDigest
from pipelines.models.chat import ChatEncoder
from pipelines.stages.fine_tune import Places, Start, fine_tune
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.dataset import Message, Row, TrainingSet, write_rows
from pipelines.values.evidence import Adapter
from pipelines.values.params import Params, load_params
from tests.support.tiny import CHAT_TEMPLATE

PARAMS = load_params(Path(__file__).parents[2] / "params.yaml")


def row(number: int, prompt: str, completion: str) -> Row:
    return Row(
        id=f"{number:016x}",
        number=number,
        messages=(Message(role="user", content=prompt),),
        completion=completion,
        group=prompt,
    )


ROWS = [row(number, f"say {number % 7}", f"{number % 7}" * 3) for number in range(24)]


def params(dropout: float = 0.0, **train: Any) -> Params:
    settings = {
        "max_steps": 6,
        "evaluate_every": 2,
        "batch_size": 4,
        "precision": "float32",
        "learning_rate": 0.01,
        **train,
    }
    lora = PARAMS.lora.model_copy(update={"dropout": dropout})
    return PARAMS.model_copy(
        update={"train": PARAMS.train.model_copy(update=settings), "lora": lora}
    )


@dataclass(frozen=True)
class Workshop:
    base: BaseModelManifest
    base_folder: Path
    root: Path
    template: str | None = CHAT_TEMPLATE

    def run(
        self,
        settings: Params,
        rows: list[Row] = ROWS,
        name: str = "one",
        dev: list[Row] = ROWS[:6],
    ) -> Adapter:
        folder = self.root / name
        for split, part in (("train", rows), ("dev", dev)):
            write_rows(folder / f"{split}.jsonl", part)
        training_set = TrainingSet(
            train=FileDigest.of(folder / "train.jsonl"),
            dev=FileDigest.of(folder / "dev.jsonl"),
            rows={},
        )
        start = Start(
            self.base, self.template, ChatEncoder.load(self.base_folder, self.template)
        )
        return fine_tune(
            training_set,
            start,
            settings,
            Places(self.base_folder, folder / "scratch", folder / "out"),
        )


def main(words: list[str]) -> None:
    """Train with `SETTINGS`, a JSON object of `params`; the device and dev losses are printed."""
    base, folder, root, name, settings = words
    workshop = Workshop(BaseModelManifest.read(Path(base)), Path(folder), Path(root))
    adapter = workshop.run(params(**json.loads(settings)), name=name)
    losses = [look.loss for look in adapter.dev_losses]
    print(json.dumps({"device": adapter.device, "losses": losses}))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1:])
