"""Stage `fine_tune`: LoRA weights from the admitted rows. The only file that imports trl.

In: the training set that `admit` wrote, the base model, and the parameters `lora` and `train`.
Out: `data/fine_tune` with the adapter's folder, `adapter.json` and `progress.jsonl`.
Refuses: a row that is too long, parameters that peft or trl do not take, a machine without room,
and an adapter that did not move or whose numbers are not finite.

The held-out split is no parameter of anything here: a `TrainingSet` cannot name it.
"""

import copy
import json
import math
import random
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import (
    DamagedFile,
    NotEnoughResources,
    ParameterError,
    RunStopped,
    TrainingDidNothing,
    UnsafeAdapter,
    UnusableRow,
    first_line,
)
from core.files import digest_of_files, digest_of_json, folder_digests, write_text
from core.settings import Settings
from core.stopping import catch_sigterm
from pipelines import layout
from pipelines.models.adapter_files import check_plain_lora
from pipelines.models.attention import leave_out_cudnn_attention
from pipelines.models.base_store import locate_base_model, read_base_model
from pipelines.models.chat import ChatEncoder
from pipelines.models.checkpoints import (
    ResumePoint,
    find_best,
    find_fault,
    find_resume_point,
    find_unfinished,
)
from pipelines.models.refused_rows import name_refused
from pipelines.models.resources import check_room, estimate_needs
from pipelines.models.training_loss import NAME_MODULES, choose_loss
from pipelines.stage_key import stage_key
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.dataset import Row, TrainingSet, read_rows
from pipelines.values.evidence import Adapter, DevLoss
from pipelines.values.params import LoraParams, Params, TrainParams, load_params
from pipelines.values.training_set import read_training_set

# Batches that are sorted by length together: more pad less, and mix lengths less.
_BATCHES_BY_LENGTH = 16
# torch's cross entropy leaves targets of this value out of the loss.
_NO_TARGET = -100

EncodedRow = dict[str, list[int]]


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


@dataclass(frozen=True)
class _Course:
    """How a training went, beside what the trainer itself remembers."""

    first_dev_loss: float
    resumed_from: tuple[int, ...]
    seconds: float


def fine_tune(
    training_set: TrainingSet, start: Start, params: Params, places: Places
) -> Adapter:
    """Train on `train`, stop early on the loss of `dev`, keep the weights of the best look.

    Checkpoints are in `places.scratch`, outside of what DVC deletes: an interrupted training
    resumes from the last one. SIGTERM ends it with a checkpoint of the current step and
    `RunStopped`. `ParameterError`, `NotEnoughResources`, `UnusableRow` and `TrainingDidNothing`
    say why there is no adapter; `DamagedFile` names a checkpoint that changed meanwhile.
    """
    train_rows = read_rows(training_set.train.checked())
    train = encode_rows(train_rows, start, params.train)
    dev_rows = read_rows(training_set.dev.checked())
    dev = encode_rows(dev_rows, start, params.train)
    _check_resources(start.base, params, train, places.scratch)
    # Encoding and checks are not training: the clock starts here.
    started = time.monotonic()
    with _explain_full_gpu(), catch_sigterm() as stop_request:
        trainer = _make_trainer(start, params, places, train, dev)
        training = _identify_training(training_set, start, params, trainer)
        first_dev_loss = _measure_first_dev_loss(trainer, places.scratch, training)
        resumed_from = _train(trainer, places, training, stop_request)
        seconds = time.monotonic() - started
        course = _Course(first_dev_loss, resumed_from, seconds)
        return _save_adapter(trainer, start, params.lora, places, course)


def encode_rows(
    rows: Sequence[Row], start: Start, params: TrainParams
) -> list[EncodedRow]:
    """Encode rows to token ids, with the prompt masked out of the loss.

    `UnusableRow` names a row that is too long, has nothing to learn, or that the template refuses.
    """
    encoder = start.encoder
    limit = min(params.max_tokens, start.base.context_tokens)
    encoded = []
    for row in rows:
        with name_refused(row):
            prompt, completion = encoder.encode_example(row.messages, row.completion)
        tokens = len(prompt) + len(completion)
        _check_length(row, tokens, limit)
        # The end-of-turn token alone teaches nothing; without it answers would not end.
        if len(completion) < 2 or completion[-1] not in encoder.end_ids:
            raise UnusableRow(
                f"Row {row.number} ({row.id}) has no completion tokens "
                "before its end-of-turn token: nothing to learn. Remove it."
            )
        no_targets = [_NO_TARGET] * len(prompt)
        encoded.append(
            {
                "input_ids": prompt + completion,
                "labels": no_targets + completion,
            }
        )
    return encoded


def _check_length(row: Row, tokens: int, limit: int) -> None:
    # Cut instead, a row would teach answers without an end.
    if tokens > limit:
        raise UnusableRow(
            f"Row {row.number} ({row.id}) has {tokens} tokens, over the {limit} that fit. "
            "Shorten it, or raise train.max_tokens up to the model's context."
        )


def count_training_steps(rows: int, params: TrainParams) -> int:
    """Count the steps of a training that is not stopped early."""
    if params.max_steps:
        return params.max_steps
    batches_per_epoch = rows / params.batch_size
    # A last batch that is not full is a step, too.
    return math.ceil(batches_per_epoch * params.epochs)


def main() -> int:
    """Write the adapter's folder, `adapter.json` and `progress.jsonl`."""
    params = load_params()
    home = Settings().home
    training_set = read_training_set()
    base, template = read_base_model()
    folder = locate_base_model(base, home)
    places = Places(
        base_folder=folder,
        # By the key of the work: a run that was killed finds its checkpoints again.
        scratch=home / "scratch" / stage_key("fine_tune"),
        out=layout.FINE_TUNE,
    )
    start = Start(base, template, ChatEncoder.load(folder, template))
    adapter = fine_tune(training_set, start, params, places)
    adapter.write(layout.ADAPTER)
    print(_summarise(adapter))
    return 0


def _summarise(adapter: Adapter) -> str:
    """One line for people: steps, dev loss before and at its best, speed."""
    first_loss = adapter.dev_losses[0].loss
    best_loss = min(look.loss for look in adapter.dev_losses)
    tokens_per_second = adapter.real_tokens / adapter.seconds
    return (
        f"{adapter.steps} steps, dev loss {first_loss:.3f} → {best_loss:.3f}, "
        f"{tokens_per_second:.0f} tokens/s{_describe_resumption(adapter.resumed_from)}"
    )


def _describe_resumption(steps: tuple[int, ...]) -> str:
    if not steps:
        return ""
    if steps[-1]:
        return f", resumed from step {steps[-1]}"
    return ", begun again since no checkpoint was whole"


def _check_resources(
    base: BaseModelManifest, params: Params, train: list[EncodedRow], scratch: Path
) -> None:
    longest = max(len(row["input_ids"]) for row in train)
    needed = estimate_needs(base, params, longest, len(train))
    # On a GPU the machine's own memory only holds libraries, and weights on their way.
    if _has_gpu():
        needed = needed.beside_a_gpu(base)
    check_room(needed, scratch)


def _order_for_training(
    rows: list[EncodedRow], params: TrainParams, steps: int
) -> list[EncodedRow]:
    """Order rows for every step: shuffled by the seed, then batched by length.

    Batches of like lengths need little padding. The whole order is fixed beforehand: a
    training that is resumed sees what the uninterrupted one would have seen.
    """
    dice = random.Random(params.seed)  # noqa: S311 - a shuffle, not a secret
    size = params.batch_size
    window = _BATCHES_BY_LENGTH * size
    batches: list[list[int]] = []
    # Rows that fill no batch at the end of an epoch come first in the next one.
    leftover: list[int] = []
    while len(batches) < steps:
        epoch = dice.sample(range(len(rows)), len(rows))
        pool = leftover + epoch
        usable = len(pool) - len(pool) % size
        leftover = pool[usable:]
        for start in range(0, usable, window):
            end = min(start + window, usable)
            by_length = sorted(
                pool[start:end], key=lambda index: len(rows[index]["input_ids"])
            )
            window_batches = _cut_into_batches(by_length, size)
            # Shuffled once more, so that training does not go from short to long.
            batches += dice.sample(window_batches, len(window_batches))
    return [rows[index] for batch in batches[:steps] for index in batch]


def _cut_into_batches(indices: list[int], size: int) -> list[list[int]]:
    batches: list[list[int]] = []
    for start in range(0, len(indices), size):
        end = start + size
        batches.append(indices[start:end])
    return batches


def _make_trainer(
    start: Start,
    params: Params,
    places: Places,
    train: list[EncodedRow],
    dev: list[EncodedRow],
) -> Any:
    """Build the trainer; `ParameterError` where peft or trl refuse what they are asked for."""
    try:
        return _build_trainer(start, params, places, train, dev)
    except ValueError as error:
        hint = "Correct those of `lora` or `train`."
        if params.lora.target_modules == "all-linear":
            hint = f"Correct those of `lora` or `train`; or {NAME_MODULES}."
        raise ParameterError(
            f"Training cannot begin with these parameters ({first_line(error)}). {hint}"
        ) from error


def _build_trainer(
    start: Start,
    params: Params,
    places: Places,
    train: list[EncodedRow],
    dev: list[EncodedRow],
) -> Any:
    from datasets import Dataset
    from transformers import EarlyStoppingCallback, PrinterCallback, set_seed
    from trl import SFTTrainer  # type: ignore[attr-defined]

    from pipelines.models.training_callbacks import AppendProgress

    # Before the model is loaded: the LoRA A matrices are drawn at random.
    set_seed(params.train.seed)
    is_bfloat16 = _decide_bfloat16(params.train)
    steps = count_training_steps(len(train), params.train)
    ordered = _order_for_training(train, params.train, steps)
    arguments = _build_arguments(params.train, places.scratch, steps, bf16=is_bfloat16)
    tokenizer = _copy_with_padding(start.encoder)
    with warnings.catch_warnings():
        # GPT-2 keeps its matrices turned: peft says so, and does what is right by itself.
        warnings.filterwarnings("ignore", message="fan_in_fan_out is set to False")
        trainer = SFTTrainer(
            model=_load_base(places.base_folder, is_bfloat16=is_bfloat16),
            args=arguments,
            train_dataset=Dataset.from_list(ordered),
            eval_dataset=Dataset.from_list(dev),
            processing_class=tokenizer,
            peft_config=_build_lora_config(params.lora),
            callbacks=[
                AppendProgress(places.out),
                EarlyStoppingCallback(early_stopping_patience=params.train.patience),
            ],
        )
    _check_modules(trainer.model, params.lora)
    shortest = min(train, key=lambda row: len(row["input_ids"]))
    choose_loss(trainer, shortest, params.lora)
    # It prints every figure to the screen; `progress.jsonl` has them.
    trainer.remove_callback(PrinterCallback)
    return trainer


def _copy_with_padding(encoder: ChatEncoder) -> Any:
    """The tokenizer with a token that fills batches: trl looks for its name and takes no number.

    A copy, since naming a token makes a control token of it, and the encoder has to stay as it is.
    """
    tokenizer = copy.deepcopy(encoder.tokenizer)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(encoder.pad_id)
    return tokenizer


def _check_modules(model: Any, lora: LoraParams) -> None:
    """Raise `ParameterError` where the adapter would be one that is refused once it is trained."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        _save_peft_files(model, folder)
        try:
            check_plain_lora(folder, lora)
        except UnsafeAdapter as error:
            # The folder is gone when a person reads this.
            reason = str(error).replace(f"{folder}/", "")
            modules = lora.target_modules
            raise ParameterError(
                f"lora.target_modules {modules} makes an adapter that is not served ({reason}). "
                f"Leave embeddings, lm_head and mixtures of experts out: {NAME_MODULES}."
            ) from error


def _load_base(folder: Path, *, is_bfloat16: bool) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    leave_out_cudnn_attention()
    return AutoModelForCausalLM.from_pretrained(
        str(folder),
        dtype=torch.bfloat16 if is_bfloat16 else torch.float32,
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
    )


def _build_lora_config(lora: LoraParams) -> Any:
    from peft import LoraConfig

    modules = lora.target_modules
    return LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]
        lora_dropout=lora.dropout,
        # A string is a pattern or a keyword such as all-linear; peft takes no tuple.
        target_modules=modules if isinstance(modules, str) else list(modules),
        task_type="CAUSAL_LM",
        bias="none",
    )


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


@contextmanager
def _explain_full_gpu() -> Iterator[None]:
    """Within, a GPU without room for the training raises `NotEnoughResources`."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise NotEnoughResources(
            "Training does not fit into the memory of the GPU. "
            "Lower train.batch_size, or shorten the rows."
        ) from error


def _decide_bfloat16(params: TrainParams) -> bool:
    """Whether training computes in bfloat16.

    `auto` is bfloat16 where the hardware that trains multiplies it: CUDA from compute
    capability 8.0 on, or a CPU with AVX512-BF16 or AMX.
    """
    import torch

    if params.precision != "auto":
        return params.precision == "bfloat16"
    if _has_gpu():
        # torch also counts cards that only emulate bfloat16, where it is slower than float32.
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # A private name: torch has no public one that knows it.
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # noqa: SLF001


def _build_arguments(
    params: TrainParams, scratch: Path, steps: int, *, bf16: bool
) -> Any:
    from trl import SFTConfig  # type: ignore[attr-defined]

    look_every = min(params.evaluate_every, steps)
    arguments = SFTConfig(
        output_dir=str(scratch),
        max_steps=steps,
        per_device_train_batch_size=params.batch_size,
        per_device_eval_batch_size=2 * params.batch_size,
        learning_rate=params.learning_rate,
        # The order is fixed by `_order_for_training`: the trainer must not shuffle.
        train_sampling_strategy="sequential",
        lr_scheduler_type="cosine",
        warmup_steps=params.warmup_share,
        eval_strategy="steps",
        eval_steps=look_every,
        save_strategy="steps",
        save_steps=look_every,
        # Two whole ones are left while the newest is written.
        save_total_limit=3,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        logging_steps=1,
        include_num_input_tokens_seen="non_padding",
        gradient_checkpointing=_has_gpu(),
        bf16=bf16,
        use_cpu=not _has_gpu(),
        seed=params.seed,
        data_seed=params.seed,
        # Rows come encoded, by the encoder that serves: trl must not encode again or cut.
        dataset_kwargs={"skip_prepare_dataset": True},
        max_length=None,
        # Experts are given rows as the base gives them: the loss is that of answers alone.
        router_aux_loss_coef=0.0,
        restore_callback_states_from_checkpoint=True,
        disable_tqdm=True,
        report_to="none",
    )
    # With several cards the trainer would feed each a batch of its own: other steps than
    # asked for. No setting limits them.
    arguments._n_gpu = min(arguments.n_gpu, 1)  # noqa: SLF001
    return arguments


def _identify_training(
    training_set: TrainingSet, start: Start, params: Params, trainer: Any
) -> str:
    """Digest what is trained and in which arithmetic.

    A checkpoint of another training would lead to another adapter.
    """
    identity = {
        "base": start.base.digest,
        "template": start.template,
        "lora": params.lora.model_dump(mode="json"),
        "train": params.train.model_dump(mode="json"),
        "rows": [training_set.train.sha256, training_set.dev.sha256],
        "bfloat16": bool(trainer.args.bf16),
        "device": trainer.args.device.type,
    }
    return digest_of_json(identity)


def _measure_first_dev_loss(trainer: Any, scratch: Path, training: str) -> float:
    """Measure the dev loss of the untouched base, once however often training is resumed."""
    path = scratch / "first_dev_loss.json"
    stored_loss = _read_stored_loss(path, training)
    if stored_loss is not None:
        return stored_loss
    figures = trainer.evaluate()
    loss = float(figures["eval_loss"])
    _store_loss(path, training, loss)
    return loss


def _store_loss(path: Path, training: str, loss: float) -> None:
    document: dict[str, object] = {
        "training": training,
        "loss": loss,
    }
    # Sealed by its own digest: it is believed without being measured again.
    document["sha256"] = digest_of_json(document)
    write_text(path, json.dumps(document))


def _read_stored_loss(path: Path, training: str) -> float | None:
    """Read the loss that this training measured; None where it has to be measured again."""
    # Missing, damaged, or not even an object: none of it is worth an error.
    with suppress(OSError, ValueError, KeyError, AttributeError, TypeError):
        document = json.loads(path.read_text(encoding="utf-8"))
        digest = document.pop("sha256")
        is_intact = digest == digest_of_json(document)
        if is_intact and document["training"] == training:
            return float(document["loss"])
    return None


def _train(
    trainer: Any, places: Places, training: str, stop_request: threading.Event
) -> tuple[int, ...]:
    """Train, from the newest whole checkpoint where there is one.

    Returns the steps at which training was resumed, ever. `RunStopped` where it was stopped,
    `NotEnoughResources` where a checkpoint could not be written.
    """
    from transformers import set_seed

    from pipelines.models.training_callbacks import SealCheckpoints, StopOnRequest

    scratch = places.scratch
    resume_point = find_resume_point(scratch, training)
    resumed_from = _record_resumption(resume_point, trainer, places)
    # The first look at the dev rows drew numbers, where it was not made before.
    set_seed(trainer.args.seed)
    stop = StopOnRequest(stop_request)
    # In this order: `stop` ends training once the checkpoint is sealed.
    trainer.add_callback(SealCheckpoints(scratch, training))
    trainer.add_callback(stop)
    with _explain_unfinished_checkpoint(scratch):
        folder = resume_point.folder
        trainer.train(resume_from_checkpoint=None if folder is None else str(folder))
    if stop.is_cut_short:
        state = trainer.state
        raise RunStopped(
            "Training was told to stop and "
            f"kept a checkpoint of step {state.global_step} of {state.max_steps}. "
            "Run the same command again: it continues from there."
        )
    _check_best(trainer, scratch, training)
    return resumed_from


@contextmanager
def _explain_unfinished_checkpoint(scratch: Path) -> Iterator[None]:
    """Within, a checkpoint that cannot be written raises `NotEnoughResources`.

    Every other error passes as it is.
    """
    from safetensors import SafetensorError

    try:
        yield
    # torch and safetensors each have an error of their own for a full disk.
    except (OSError, RuntimeError, SafetensorError) as error:
        unfinished = find_unfinished(scratch)
        if unfinished is None:
            raise
        lines = str(error).strip().splitlines()
        reason = lines[0] if lines else type(error).__name__
        raise NotEnoughResources(
            f"{unfinished} cannot be written ({reason[:200]}). "
            "Look at the disk and run the same command again: "
            "training continues from the checkpoint before."
        ) from error


def _record_resumption(
    resume_point: ResumePoint, trainer: Any, places: Places
) -> tuple[int, ...]:
    """Return the steps at which training was resumed, this time included.

    Refused checkpoints are named on stderr and in `progress.jsonl`.
    """
    from pipelines.models.training_callbacks import append_progress

    history = places.scratch / "resumed.json"
    earlier_steps = _read_steps(history)
    if resume_point.refused:
        sys.stderr.write(f"{resume_point}\n")
        entry = {
            "step": resume_point.step,
            "of": trainer.args.max_steps,
            "resumed": resume_point.step,
            "refused": [str(checkpoint) for checkpoint in resume_point.refused],
        }
        append_progress(places.out, entry)
    # A first start is no resumption; a start over, since nothing was whole, is one at step 0.
    if resume_point.folder is None and not resume_point.refused:
        return earlier_steps
    steps = (*earlier_steps, resume_point.step)
    write_text(history, json.dumps(steps))
    return steps


def _read_steps(history: Path) -> tuple[int, ...]:
    """Read where training was resumed before; a damaged list counts as an empty one."""
    # No weight depends on it: it only says how the adapter came about.
    try:
        steps = json.loads(history.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ()
    return tuple(steps) if _is_list_of_steps(steps) else ()


def _is_list_of_steps(document: Any) -> bool:
    if not isinstance(document, list):
        return False
    # `type` and not isinstance: True is no step.
    return all(type(step) is int for step in document)


def _check_best(trainer: Any, scratch: Path, training: str) -> None:
    """Raise `DamagedFile` if the best weights, which the trainer has just loaded, changed."""
    best = find_best(scratch, trainer.state.best_global_step)
    if best is None:
        return
    fault = find_fault(best, training)
    if fault is not None:
        raise DamagedFile(
            f"{best} holds the best weights and is damaged ({fault}). Run the same command again."
        )


def _save_adapter(
    trainer: Any,
    start: Start,
    lora: LoraParams,
    places: Places,
    course: _Course,
) -> Adapter:
    """Write the weights and describe them; `TrainingDidNothing` where they did not learn."""
    folder = places.out / "adapter"
    state = trainer.state
    base = start.base
    train_losses, dev_losses = _read_losses(state, course.first_dev_loss)
    moved = _measure_movement(trainer.model)
    _check_learning(state.global_step, moved, train_losses, dev_losses)
    # Only what has learned something is written.
    _save_weights(trainer.model, folder, base)
    files = folder_digests(folder)
    return Adapter(
        folder=folder.as_posix(),
        files=files,
        sha256=digest_of_files(files),
        base_id=base.id,
        base_revision=base.revision,
        base_digest=base.digest,
        chat_template_sha256=base.chat_template_sha256,
        lora=lora,
        steps=state.global_step,
        train_loss=train_losses[-1],
        dev_losses=tuple(DevLoss(step=step, loss=loss) for step, loss in dev_losses),
        best_step=state.best_global_step or state.global_step,
        moved=moved,
        resumed_from=course.resumed_from,
        precision="bfloat16" if trainer.args.bf16 else "float32",
        device=str(trainer.args.device),
        real_tokens=int(state.num_input_tokens_seen),
        seconds=course.seconds,
    )


def _read_losses(
    state: Any, first_dev_loss: float
) -> tuple[list[float], list[tuple[int, float]]]:
    """Return the training loss of each step, and (step, dev loss) of each look, 0 the first."""
    train_losses: list[float] = []
    dev_losses: list[tuple[int, float]] = [(0, first_dev_loss)]
    for entry in state.log_history:
        if "loss" in entry:
            train_losses.append(entry["loss"])
        if "eval_loss" in entry:
            dev_losses.append((entry["step"], entry["eval_loss"]))
    return train_losses, dev_losses


def _check_learning(
    steps: int,
    moved: float,
    train_losses: list[float],
    dev_losses: list[tuple[int, float]],
) -> None:
    """Raise `TrainingDidNothing` unless weights moved and every loss is a number."""
    last_losses = train_losses[-1:]
    numbers = [moved, *last_losses, *(loss for _, loss in dev_losses)]
    is_finite = all(math.isfinite(number) for number in numbers)
    has_moved = steps > 0 and moved > 0
    # A NaN is not over zero, either: it does not pass.
    if not (last_losses and is_finite and has_moved):
        train_loss = last_losses[0] if last_losses else "missing"
        raise TrainingDidNothing(
            f"After {steps} steps the adapter's norm is {moved:.3g} "
            f"and the training loss {train_loss}: it did not learn. "
            "Lower train.learning_rate or look at the rows."
        )


def _measure_movement(model: Any) -> float:
    """Euclidean norm over all LoRA B matrices.

    peft starts them at zero, so that zero means untrained.
    """
    import torch

    squares = [
        weights.detach().double().pow(2).sum()
        for name, weights in model.named_parameters()
        if "lora_B" in name
    ]
    if not squares:
        return 0.0
    return float(torch.stack(squares).sum().sqrt())


def _save_weights(model: Any, folder: Path, base: BaseModelManifest) -> None:
    """Write peft's two files, without the path of the base on this machine."""
    _save_peft_files(model, folder)
    # peft's page is a form that nobody filled in.
    (folder / "README.md").unlink(missing_ok=True)
    _make_config_portable(folder / "adapter_config.json", base)


def _save_peft_files(model: Any, folder: Path) -> None:
    with warnings.catch_warnings():
        # Said of embeddings among the modules, which are refused anyway.
        warnings.filterwarnings("ignore", message="Setting `save_embedding_layers`")
        model.save_pretrained(str(folder), safe_serialization=True)


def _make_config_portable(path: Path, base: BaseModelManifest) -> None:
    config = json.loads(path.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = base.id
    modules = config["target_modules"]
    # peft keeps a set, whose order is another one in each process.
    if isinstance(modules, list):
        modules.sort()
    text = json.dumps(config, indent=1, sort_keys=True)
    write_text(path, text + "\n")
