"""Stage `fine_tune`: LoRA weights from the admitted rows. The only file that imports trl.

The held-out split is no parameter of anything here: a `TrainingSet` cannot name it.
"""

import json
import math
import random
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import (
    DamagedFile,
    NotEnoughResources,
    ParameterError,
    RunStopped,
    TrainingDidNothing,
    UnusableRow,
)
from core.files import digest_of_files, digest_of_json, folder_digests, write_text
from core.settings import Settings
from core.stopping import told_to_stop
from pipelines import layout
from pipelines.models.chat import ChatEncoder
from pipelines.models.checkpoints import (
    Found,
    best_of,
    fault_of,
    newest_whole,
    unwritten,
)
from pipelines.models.resources import check_room, needs
from pipelines.stage_key import stage_key
from pipelines.stages.base_model import locate, read_base_model
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.dataset import Row, TrainingSet, read_rows
from pipelines.values.evidence import Adapter, DevLoss
from pipelines.values.params import LoraParams, Params, TrainParams, load_params
from pipelines.values.training_set import read_training_set

OUT = layout.FINE_TUNE
_BATCHES_BY_LENGTH = 16


@dataclass(frozen=True)
class Places:
    """Where training reads the base model, keeps checkpoints, and puts the adapter."""

    base_folder: Path
    scratch: Path
    out: Path


@dataclass(frozen=True)
class Start:
    """What training starts from: the base model and the encoder that serving will use."""

    base: BaseModelManifest
    template: str | None
    encoder: ChatEncoder


def fine_tune(
    training_set: TrainingSet, start: Start, params: Params, places: Places
) -> Adapter:
    """Train on `train`, stop early on the loss of `dev`, keep the weights of the best look.

    Checkpoints live in `places.scratch`, outside of what DVC deletes: an interrupted training goes on from the last one.
    SIGTERM ends it with a checkpoint of the step that goes on, and `RunStopped`.
    """
    train = encode(read_rows(training_set.train.checked()), start, params.train)
    dev = encode(read_rows(training_set.dev.checked()), start, params.train)
    needed = needs(
        start.base, params, max(len(row["input_ids"]) for row in train), len(train)
    )
    check_room(needed.beside_a_gpu(start.base) if _on_gpu() else needed, places.scratch)
    started = time.monotonic()
    with _gpu_memory(), told_to_stop() as told:
        try:
            trainer = _trainer(start, params, places, train, dev)
        except ValueError as error:  # of peft and trl, about what they were asked for
            why = str(error).strip().split("\n", 1)[0][:200]
            raise ParameterError(
                f"Training cannot begin with these parameters ({why}). Mend those of `lora` or `train`."
            ) from error
        training = _identity(training_set, start, params, trainer)
        first = _first_dev_loss(trainer, places.scratch, training)
        resumed = _train(trainer, places, training, told)
        return _adapter(
            trainer,
            start,
            params.lora,
            places,
            first,
            resumed,
            time.monotonic() - started,
        )


def encode(
    rows: Sequence[Row], start: Start, params: TrainParams
) -> list[dict[str, list[int]]]:
    """Token ids with the prompt masked out of the loss; a row that cannot be trained on is named."""
    encoder, limit = start.encoder, min(params.max_tokens, start.base.context_tokens)
    encoded = []
    for row in rows:
        prompt, completion = (
            encoder.prompt_ids(row.messages),
            encoder.completion_ids(row.completion),
        )
        if len(prompt) + len(completion) > limit:
            raise UnusableRow(
                f"Row {row.number} ({row.id}) has {len(prompt) + len(completion)} tokens, over the {limit} that fit. "
                "Shorten it, or raise train.max_tokens up to the model's context."
            )
        if len(completion) < 2 or completion[-1] not in encoder.end_ids:
            raise UnusableRow(
                f"Row {row.number} ({row.id}) has no completion tokens before its end-of-turn token: nothing to learn. Remove it."
            )
        encoded.append(
            {
                "input_ids": prompt + completion,
                "labels": [-100] * len(prompt) + completion,
            }
        )
    return encoded


def main() -> int:
    """Write the adapter's folder, `adapter.json` and `progress.jsonl`."""
    params, home = load_params(), Settings().home
    training_set = read_training_set()
    base, template = read_base_model()
    folder = locate(base, home)
    places = Places(
        base_folder=folder, scratch=home / "scratch" / stage_key("fine_tune"), out=OUT
    )
    start = Start(base, template, ChatEncoder.load(folder, template))
    adapter = fine_tune(training_set, start, params, places)
    adapter.write(OUT / "adapter.json")
    print(
        f"{adapter.steps} steps, dev loss {adapter.dev_losses[0].loss:.3f} → {min(look.loss for look in adapter.dev_losses):.3f}, "
        f"{adapter.real_tokens / adapter.seconds:.0f} tokens/s"
        + _how_resumed(adapter.resumed_from)
    )
    return 0


def _how_resumed(steps: tuple[int, ...]) -> str:
    if not steps:
        return ""
    return (
        f", resumed from step {steps[-1]}"
        if steps[-1]
        else ", begun again since no checkpoint was whole"
    )


def _in_training_order(
    rows: list[dict[str, list[int]]], params: TrainParams, steps: int
) -> list[dict[str, list[int]]]:
    """Rows for every step of training, shuffled by the seed and then batched by length, so that little is padded.

    The whole order is fixed beforehand: a training that is resumed sees what the uninterrupted one would have seen.
    """
    dice, size = random.Random(params.seed), params.batch_size  # noqa: S311 - a shuffle, not a secret
    batches: list[list[int]] = []
    carry: list[int] = []
    while len(batches) < steps:
        pool = carry + dice.sample(range(len(rows)), len(rows))
        whole = len(pool) - len(pool) % size
        carry = pool[whole:]
        for start in range(0, whole, _BATCHES_BY_LENGTH * size):
            near = sorted(
                pool[start : min(start + _BATCHES_BY_LENGTH * size, whole)],
                key=lambda index: len(rows[index]["input_ids"]),
            )
            found = [near[place : place + size] for place in range(0, len(near), size)]
            batches += dice.sample(found, len(found))
    return [rows[index] for batch in batches[:steps] for index in batch]


def training_steps(rows: int, params: TrainParams) -> int:
    """How many steps a training takes that is not stopped early."""
    return params.max_steps or math.ceil(rows / params.batch_size * params.epochs)


def _trainer(
    start: Start,
    params: Params,
    places: Places,
    train: list[dict[str, list[int]]],
    dev: list[dict[str, list[int]]],
) -> Any:
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import (
        AutoModelForCausalLM,
        EarlyStoppingCallback,
        PrinterCallback,
        set_seed,
    )
    from trl import SFTTrainer  # type: ignore[attr-defined]

    from pipelines.models.training_callbacks import AppendProgress

    set_seed(params.train.seed)
    low = _bfloat16(params.train)
    model = AutoModelForCausalLM.from_pretrained(
        str(places.base_folder),
        dtype=torch.bfloat16 if low else torch.float32,
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
    )
    lora = params.lora
    modules = (
        lora.target_modules
        if isinstance(lora.target_modules, str)
        else list(lora.target_modules)
    )
    trainer = SFTTrainer(
        model=model,
        args=_arguments(
            params.train,
            places.scratch,
            training_steps(len(train), params.train),
            bf16=low,
        ),
        train_dataset=Dataset.from_list(
            _in_training_order(
                train, params.train, training_steps(len(train), params.train)
            )
        ),
        eval_dataset=Dataset.from_list(dev),
        processing_class=start.encoder.tokenizer,
        peft_config=LoraConfig(
            r=lora.r,
            lora_alpha=lora.alpha,  # type: ignore[arg-type]
            lora_dropout=lora.dropout,
            target_modules=modules,
            task_type="CAUSAL_LM",
            bias="none",
        ),
        callbacks=[
            AppendProgress(places.out),
            EarlyStoppingCallback(early_stopping_patience=params.train.patience),
        ],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _on_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


@contextmanager
def _gpu_memory() -> Iterator[None]:
    """Within, a GPU without room for the training is one sentence."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise NotEnoughResources(
            "Training does not fit into the memory of the GPU. Lower train.batch_size, or shorten the rows."
        ) from error


def _bfloat16(params: TrainParams) -> bool:
    """`auto` is bfloat16 where the hardware that trains multiplies it.

    That is CUDA from compute capability 8.0 on, or a CPU with AVX512-BF16 or AMX.
    """
    import torch

    if params.precision != "auto":
        return params.precision == "bfloat16"
    if _on_gpu():
        # torch also counts cards that only emulate bfloat16, which is slower there than float32.
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # noqa: SLF001 - the one place that knows


def _arguments(params: TrainParams, scratch: Path, steps: int, *, bf16: bool) -> Any:
    from trl import SFTConfig  # type: ignore[attr-defined]

    look = min(params.evaluate_every, steps)
    arguments = SFTConfig(
        output_dir=str(scratch),
        max_steps=steps,
        per_device_train_batch_size=params.batch_size,
        per_device_eval_batch_size=2 * params.batch_size,
        learning_rate=params.learning_rate,
        train_sampling_strategy="sequential",
        lr_scheduler_type="cosine",
        warmup_steps=params.warmup_share,
        eval_strategy="steps",
        eval_steps=look,
        save_strategy="steps",
        save_steps=look,
        save_total_limit=3,  # two whole ones are left while the newest is written
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        logging_steps=1,
        include_num_input_tokens_seen="non_padding",
        gradient_checkpointing=_on_gpu(),
        bf16=bf16,
        use_cpu=not _on_gpu(),
        seed=params.seed,
        data_seed=params.seed,
        dataset_kwargs={"skip_prepare_dataset": True},
        max_length=None,
        restore_callback_states_from_checkpoint=True,
        disable_tqdm=True,
        report_to="none",
    )
    # With several cards the trainer would feed each a batch of its own: other steps than asked for.
    arguments._n_gpu = min(arguments.n_gpu, 1)  # noqa: SLF001 - no setting says it
    return arguments


def _identity(
    training_set: TrainingSet, start: Start, params: Params, trainer: Any
) -> str:
    """The digest of what is trained and in which arithmetic: another training's checkpoint leads to another adapter."""
    return digest_of_json(
        {
            "base": start.base.digest,
            "template": start.template,
            "lora": params.lora.model_dump(mode="json"),
            "train": params.train.model_dump(mode="json"),
            "rows": [training_set.train.sha256, training_set.dev.sha256],
            "bfloat16": bool(trainer.args.bf16),
            "device": trainer.args.device.type,
        }
    )


def _first_dev_loss(trainer: Any, scratch: Path, training: str) -> float:
    """Dev loss of the untouched base, measured once however often training is resumed."""
    kept = scratch / "first_dev_loss.json"
    loss = _kept_loss(kept, training)
    if loss is None:
        loss = float(trainer.evaluate()["eval_loss"])
        document = {"training": training, "loss": loss}
        write_text(kept, json.dumps({**document, "sha256": digest_of_json(document)}))
    return loss


def _kept_loss(path: Path, training: str) -> float | None:
    """The loss that this training measured; None where the file is missing, damaged, or of another training."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        digest = document.pop("sha256")
        is_ours = (
            digest == digest_of_json(document) and document["training"] == training
        )
        return float(document["loss"]) if is_ours else None
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None


def _train(
    trainer: Any, places: Places, training: str, told: threading.Event
) -> tuple[int, ...]:
    """Train, from the newest whole checkpoint where there is one; give the steps at which it was resumed, ever."""
    from safetensors import SafetensorError
    from transformers import set_seed

    from pipelines.models.training_callbacks import SealCheckpoints, StopWhenTold

    scratch = places.scratch
    found = newest_whole(scratch, training)
    resumed = _resumed(found, trainer, places)
    set_seed(
        trainer.args.seed
    )  # the first look at the dev rows drew numbers, where it was not made before
    stop = StopWhenTold(told)
    trainer.add_callback(
        SealCheckpoints(scratch, training)
    )  # before `stop`, which ends training once the checkpoint is whole
    trainer.add_callback(stop)
    try:
        trainer.train(
            resume_from_checkpoint=None if found.folder is None else str(found.folder)
        )
    except (
        OSError,
        RuntimeError,
        SafetensorError,
    ) as error:  # torch and safetensors each have their own for a disk that is full
        cut_short = unwritten(scratch)
        if cut_short is None:
            raise
        raise NotEnoughResources(
            f"{cut_short} cannot be written ({(str(error).strip().splitlines() or [type(error).__name__])[0][:200]}). "
            "Look at the disk and run the same command again: training goes on from the checkpoint before."
        ) from error
    if stop.cut_short:
        raise RunStopped(
            f"Training was told to stop and kept a checkpoint of step {trainer.state.global_step} of {trainer.state.max_steps}. "
            "Run the same command again: it goes on from there."
        )
    _check_best(trainer, scratch, training)
    return resumed


def _resumed(found: Found, trainer: Any, places: Places) -> tuple[int, ...]:
    """The steps at which training was resumed, this time included. Refused checkpoints are named aloud and in `progress.jsonl`."""
    from pipelines.models.training_callbacks import append_progress

    history = places.scratch / "resumed.json"
    before = _steps_in(history)
    if found.refused:
        sys.stderr.write(f"{found}\n")
        refused = [str(each) for each in found.refused]
        append_progress(
            places.out,
            {
                "step": found.step,
                "of": trainer.args.max_steps,
                "resumed": found.step,
                "refused": refused,
            },
        )
    if found.folder is None and not found.refused:
        return before
    steps = (*before, found.step)
    write_text(history, json.dumps(steps))
    return steps


def _steps_in(history: Path) -> tuple[int, ...]:
    """What was resumed before; a damaged list is begun anew, since no weight hangs on it."""
    try:
        steps = json.loads(history.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ()
    return (
        tuple(steps)
        if isinstance(steps, list) and all(type(step) is int for step in steps)
        else ()
    )


def _check_best(trainer: Any, scratch: Path, training: str) -> None:
    """The trainer has just loaded the weights of the best look: they must be those that were written."""
    best = best_of(scratch, trainer.state.best_global_step)
    why = None if best is None else fault_of(best, training)
    if best is not None and why is not None:
        raise DamagedFile(
            f"{best} holds the best weights and is damaged ({why}). Run the same command again."
        )


def _adapter(
    trainer: Any,
    start: Start,
    lora: LoraParams,
    places: Places,
    first: float,
    resumed: tuple[int, ...],
    seconds: float,
) -> Adapter:
    folder = places.out / "adapter"
    state = trainer.state
    losses = [entry["loss"] for entry in state.log_history if "loss" in entry]
    looks = [
        (entry["step"], entry["eval_loss"])
        for entry in state.log_history
        if "eval_loss" in entry
    ]
    moved = _moved(trainer.model)
    finite = all(
        math.isfinite(number)
        for number in (first, moved, *losses[-1:], *(loss for _, loss in looks))
    )
    if not (losses and finite and moved > 0 and state.global_step > 0):
        raise TrainingDidNothing(
            f"After {state.global_step} steps the adapter's norm is {moved:.3g} and the training loss "
            f"{losses[-1] if losses else 'missing'}: it did not learn. Lower train.learning_rate or look at the rows."
        )
    _save(trainer.model, folder, start.base)
    files = folder_digests(folder)
    return Adapter(
        folder=folder.as_posix(),
        files=files,
        sha256=digest_of_files(files),
        base_id=start.base.id,
        base_revision=start.base.revision,
        base_digest=start.base.digest,
        chat_template_sha256=start.base.chat_template_sha256,
        lora=lora,
        steps=state.global_step,
        train_loss=losses[-1],
        dev_losses=(
            DevLoss(step=0, loss=first),
            *(DevLoss(step=step, loss=loss) for step, loss in looks),
        ),
        best_step=state.best_global_step or state.global_step,
        moved=moved,
        resumed_from=resumed,
        precision="bfloat16" if trainer.args.bf16 else "float32",
        device=str(trainer.args.device),
        real_tokens=int(state.num_input_tokens_seen),
        seconds=seconds,
    )


def _moved(model: Any) -> float:
    """Euclidean norm over all LoRA B matrices. peft starts them at zero, so that zero means untrained."""
    import torch

    squares = [
        weights.detach().double().pow(2).sum()
        for name, weights in model.named_parameters()
        if "lora_B" in name
    ]
    return float(torch.stack(squares).sum().sqrt()) if squares else 0.0


def _save(model: Any, folder: Path, base: BaseModelManifest) -> None:
    """Peft's two files, without the path at which the base stood on this machine."""
    model.save_pretrained(str(folder), safe_serialization=True)
    (folder / "README.md").unlink(missing_ok=True)
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = base.id
    if isinstance(config["target_modules"], list):
        config[
            "target_modules"
        ].sort()  # peft keeps a set, whose order is another one in each process
    write_text(
        folder / "adapter_config.json",
        json.dumps(config, indent=1, sort_keys=True) + "\n",
    )
