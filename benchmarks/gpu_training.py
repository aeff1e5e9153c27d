"""What `fine_tune` costs beside plain trl: `python -m benchmarks.gpu_training [--short]`.

The peer is a script of twenty lines with trl's SFTTrainer: same model, rows, seed, precision,
steps and evaluations of the dev rows. Each run is a process of its own, on a model of about 110M
random weights. Who goes first changes with each pair of runs.

Goal: at least 0.95 times the peer's tokens a second, padding aside, from loading the model to the
saved adapter, in a training of 240 steps. One of 40 steps is measured beside it: the difference is
what a step costs, and the rest of the time is what a training costs however long it is.

`--short` uses a two-layer model and one run, so that the script itself can be tried
without a GPU.
"""

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.values.dataset import Row
from pipelines.values.params import Params
from tests.support.tiny import make_tiny_base
from tests.support.workshop import params, row

ROOT = Path(__file__).resolve().parents[1]
SHARE, DEV = 0.95, 32
_KINDS = ("assay", "trl")
Training = Callable[[], tuple[int, list[float], str]]
"""Trains, and gives its tokens, its dev losses and its precision."""
WORDS = (
    "copy",
    "sort",
    "list",
    "every",
    "file",
    "second",
    "column",
    "by",
    "name",
    "into",
    "server",
    "stop",
    "older",
    "than",
    "a",
    "week",
)


@dataclass(frozen=True)
class Size:
    """How much is trained."""

    layers: int
    width: int
    vocabulary: int
    rows: int
    words: int
    steps: tuple[int, ...]
    """Of each training that is timed; the longest decides."""
    runs: int


LONG = Size(
    layers=12, width=768, vocabulary=32_768, rows=704, words=36, steps=(40, 240), runs=2
)
SHORT = Size(layers=2, width=64, vocabulary=512, rows=128, words=6, steps=(12,), runs=1)


def main(arguments: list[str]) -> int:
    """Measure, print one JSON line last, and fail where the goal is missed."""
    size = SHORT if "--short" in arguments else LONG
    if "--one" in arguments:
        kind, folder, steps = arguments[arguments.index("--one") + 1 :][:3]
        print(json.dumps(_one(kind, Path(folder), size, int(steps))))
        return 0
    with tempfile.TemporaryDirectory(prefix="assay-benchmark-") as scratch:
        _make_base(Path(scratch) / "base", size)
        runs = [
            _in_a_process(kind, Path(scratch), number, size, steps)
            for number in range(size.runs)
            for steps in size.steps
            for kind in (_KINDS if number % 2 == 0 else _KINDS[::-1])
        ]
    line = _line(runs, size)
    print(json.dumps(line))
    return 0 if line["met"] else 1


def _line(runs: list[dict[str, Any]], size: Size) -> dict[str, Any]:
    speeds = {
        kind: {
            steps: [run["tokens_per_s"] for run in _of(runs, kind, steps)]
            for steps in size.steps
        }
        for kind in _KINDS
    }
    ratios = {
        steps: statistics.median(speeds["assay"][steps])
        / statistics.median(speeds["trl"][steps])
        for steps in size.steps
    }
    value = ratios[max(size.steps)]
    return {
        "name": "gpu_training",
        "value": round(value, 3),
        "unit": "tokens/s of fine_tune / tokens/s of trl",
        "goal": f">= {SHARE}",
        "met": value >= SHARE,
        "peer": "trl SFTTrainer",
        "runs": {
            "ratios": {steps: round(ratio, 3) for steps, ratio in ratios.items()},
            "tokens_per_s": speeds,
            "seconds_a_step": {kind: _step(runs, kind, size) for kind in _KINDS},
            "peak_gb": {
                kind: max(run["peak_gb"] for run in runs if run["kind"] == kind)
                for kind in _KINDS
            },
            **{name: runs[0][name] for name in ("device", "precision", "versions")},
        },
    }


def _step(runs: list[dict[str, Any]], kind: str, size: Size) -> float | None:
    """Seconds that one step more costs; None where one length was timed."""
    short, long = min(size.steps), max(size.steps)
    if short == long:
        return None
    first, last = (
        statistics.median(float(run["seconds"]) for run in _of(runs, kind, steps))
        for steps in (short, long)
    )
    return round((last - first) / (long - short), 4)


def _of(runs: list[dict[str, Any]], kind: str, steps: int) -> list[dict[str, Any]]:
    return [run for run in runs if (run["kind"], run["steps"]) == (kind, steps)]


def _in_a_process(
    kind: str, scratch: Path, number: int, size: Size, steps: int
) -> dict[str, Any]:
    folder = scratch / f"{kind}{number}-{steps}"
    folder.mkdir()
    (folder / "base").symlink_to(scratch / "base")
    command = [
        sys.executable,
        "-m",
        "benchmarks.gpu_training",
        *(["--short"] if size is SHORT else []),
        "--one",
        kind,
        str(folder),
        str(steps),
    ]
    quiet = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "TQDM_DISABLE": "1",
        "ASSAY_HOME": str(folder / "home"),
    }
    done = subprocess.run(
        command, cwd=ROOT, env=quiet, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise SystemExit(
            f"{kind} ended with {done.returncode}: {done.stderr.strip()[-2000:]}"
        )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps(found), flush=True)
    return found


def _one(kind: str, folder: Path, size: Size, steps: int) -> dict[str, Any]:
    """Train once, here."""
    import torch
    import transformers
    import trl  # also imported before the clock runs

    on_gpu = torch.cuda.is_available()
    base = (folder / "base").resolve()
    train = (_assay if kind == "assay" else _trl)(base, folder, size, steps)
    started = time.monotonic()
    tokens, losses, precision = train()
    seconds = time.monotonic() - started
    return {
        "kind": kind,
        "steps": steps,
        "seconds": round(seconds, 2),
        "tokens": tokens,
        "tokens_per_s": round(tokens / seconds),
        "peak_gb": round(_peak_bytes(on_gpu=on_gpu) / 1e9, 3),
        "dev_losses": [round(loss, 4) for loss in losses],
        "precision": precision,
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        "versions": {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "trl": trl.__version__,
        },
    }


def _assay(base: Path, folder: Path, size: Size, steps: int) -> Training:
    """The stage with a ready manifest: its digests are the work of stage `base_model`."""
    from tests.support.tiny import tiny_manifest
    from tests.support.workshop import Workshop

    workshop = Workshop(tiny_manifest(base, folder / "home"), base, folder)

    def train() -> tuple[int, list[float], str]:
        rows = _rows(size)
        made = workshop.run(_settings(steps), rows[DEV:], dev=rows[:DEV])
        return made.real_tokens, [look.loss for look in made.dev_losses], made.precision

    return train


def _trl(base: Path, folder: Path, size: Size, steps: int) -> Training:
    return lambda: _trained_by_trl(base, folder, size, steps)


def _trained_by_trl(
    base: Path, folder: Path, size: Size, steps: int
) -> tuple[int, list[float], str]:
    """The peer: what somebody writes who has trl alone."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer  # type: ignore[attr-defined]

    settings, low = _settings(steps), torch.cuda.is_available()
    train, lora = settings.train, settings.lora
    rows = [
        {
            "prompt": [turn.model_dump() for turn in each.messages],
            "completion": _said(each),
        }
        for each in _rows(size)
    ]
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(
            str(base), dtype=torch.bfloat16 if low else torch.float32
        ),
        args=SFTConfig(
            output_dir=str(folder / "out"),
            max_steps=steps,
            per_device_train_batch_size=train.batch_size,
            per_device_eval_batch_size=2 * train.batch_size,
            learning_rate=train.learning_rate,
            eval_strategy="steps",
            eval_steps=train.evaluate_every,
            save_steps=train.evaluate_every,
            logging_steps=1,
            bf16=low,
            gradient_checkpointing=low,
            use_cpu=not low,
            include_num_input_tokens_seen="non_padding",
            seed=train.seed,
            disable_tqdm=True,
            report_to="none",
        ),
        train_dataset=Dataset.from_list(rows[DEV:]),
        eval_dataset=Dataset.from_list(rows[:DEV]),
        processing_class=AutoTokenizer.from_pretrained(str(base)),
        peft_config=LoraConfig(
            r=lora.r,
            lora_alpha=int(lora.alpha),
            lora_dropout=lora.dropout,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        ),
    )
    trainer.evaluate()
    trainer.train()
    trainer.save_model(str(folder / "adapter"))
    looks = [
        entry["eval_loss"]
        for entry in trainer.state.log_history
        if "eval_loss" in entry
    ]
    return (
        int(trainer.state.num_input_tokens_seen),
        looks,
        "bfloat16" if low else "float32",
    )


def _said(each: Row) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": each.completion}]


def _settings(steps: int) -> Params:
    asked: dict[str, Any] = {
        "max_steps": steps,
        "evaluate_every": steps // 2,
        "batch_size": 16,
        "learning_rate": 2e-4,
        "precision": "auto",
    }
    return params(**asked)


def _rows(size: Size) -> list[Row]:
    dice = random.Random(0)  # noqa: S311 - rows to time, no secret
    return [
        row(number, _text(dice, size), _text(dice, size)) for number in range(size.rows)
    ]


def _text(dice: random.Random, size: Size) -> str:
    return " ".join(dice.choices(WORDS, k=dice.randint(size.words // 4, size.words)))


def _make_base(folder: Path, size: Size) -> None:
    """The tests' tokenizer with a larger model."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig.from_pretrained(make_tiny_base(folder))
    config.update(
        {
            "vocab_size": size.vocabulary,
            "hidden_size": size.width,
            "head_dim": 64,
            "intermediate_size": 8 * size.width // 3,
            "num_hidden_layers": size.layers,
            "num_attention_heads": size.width // 64,
            "num_key_value_heads": size.width // 64,
            "initializer_range": 0.02,
        }
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)


def _peak_bytes(*, on_gpu: bool) -> int:
    import resource

    import torch

    return (
        torch.cuda.max_memory_allocated()
        if on_gpu
        else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
