"""A base model, with an adapter or without: loaded whole, answering greedily, scored by losses.

Prompts of one data set often begin alike. Where the model allows it (`batching`), that shared
prefix is computed once, and every batch continues from a copy of its key-value cache:

    prefix (cached)  | padding | rest of the row
"""

import copy
import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import UnusableBaseModel, UnusableRow, first_line
from pipelines.models.asked_rows import (
    Advance,
    Generated,
    InMemory,
    Kept,
    RowEngine,
    Sampling,
    TokenIds,
)
from pipelines.models.attention import leave_out_cudnn_attention
from pipelines.models.batching import Batching, choose_batching, cut_into_batches
from pipelines.models.chat import ChatEncoder
from pipelines.models.prompt_files import has_prompt, read_prompt
from pipelines.models.rounded import round_linear_layers
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.engine_name import EngineName
from pipelines.values.precision import Arithmetic, Precision, arithmetic_of

if TYPE_CHECKING:
    import torch

# Rows x completion tokens: bounds the logits of a batch at about 200 MB
# for 49k tokens of vocabulary.
_LOGITS_AT_ONCE = 1024


@dataclass(frozen=True)
class LanguageModel:
    """Weights on a device, ready for inference, with the encoder that belongs to them."""

    model: Any
    encoder: ChatEncoder
    device: str
    precision: Precision
    context_tokens: int
    batching: Batching
    # What computes rows in place of the loaded weights, which are not needed then.
    engine: RowEngine | None = None

    @property
    def arithmetic(self) -> Arithmetic:
        """What numbers it computes with, and its caches hold."""
        return arithmetic_of(self.precision)

    @property
    def computed_by(self) -> tuple[EngineName, str]:
        """The engine that computes rows, and the version of its library."""
        if self.engine is None:
            return "transformers", version("transformers")
        return self.engine.name, self.engine.version


@dataclass(frozen=True)
class _Prefix:
    """The tokens that all rows begin with: how many, and their key-value cache, None for none."""

    length: int
    cache: Any


@dataclass(frozen=True)
class _Batch:
    """Rows as tensors of shape (rows, tokens), and a copy of the prefix's cache for them."""

    ids: "torch.Tensor"
    mask: "torch.Tensor"
    cache: Any


def load_language_model(
    base: BaseModelManifest,
    folder: Path,
    template: str | None,
    precision: Precision,
    adapter: Path | None = None,
) -> LanguageModel:
    """Load the weights in `folder`, and the LoRA weights or the prompt in `adapter` on top.

    Both are expected to be checked already. `UnusableBaseModel` where the base does not load.
    """
    import torch
    from transformers import AutoModelForCausalLM

    device = "cuda" if torch.cuda.is_available() else "cpu"
    leave_out_cudnn_attention()
    # Safetensors alone, without remote code: nothing in the folder can run.
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            str(folder),
            dtype=getattr(torch, arithmetic_of(precision)),
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
        )
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        raise UnusableBaseModel(
            f"{base.id} does not load: {first_line(error)}. "
            "Try it with transformers by itself."
        ) from error
    forget_generation_settings(model)
    # Before the adapter is on: its own weights stay as they were trained.
    if precision == "int8":
        round_linear_layers(model)
    batching = choose_batching(model)
    encoder = ChatEncoder.load(folder, template)
    if adapter is not None and has_prompt(adapter):
        encoder = encoder.with_prompt(read_prompt(adapter))
    elif adapter is not None:
        model = _add_adapter(model, adapter)
    return LanguageModel(
        model=model.to(device).eval(),
        encoder=encoder,
        device=device,
        precision=precision,
        context_tokens=base.context_tokens,
        batching=batching,
    )


def forget_generation_settings(model: Any) -> None:
    """Drop what the base's own `generation_config.json` asks for.

    transformers fills in from there what a caller leaves open. A penalty or a temperature of
    the base's would make answers that are called greedy something else.
    """
    from transformers import GenerationConfig

    model.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]


def generate(
    language: LanguageModel,
    prompts: Sequence[TokenIds],
    *,
    max_new_tokens: int,
    batch_size: int,
    advance: Advance = lambda _: None,
    sampling: Sampling | None = None,
) -> tuple[Generated, ...]:
    """Answer greedily or by `sampling`, in the order of `prompts`, which are token ids.

    What all prompts begin with is computed once. `UnusableRow` where a prompt and
    `max_new_tokens` do not fit into the context. `advance` hears of each batch's size.
    """
    answers: InMemory[Generated] = InMemory()
    generate_into(
        answers,
        language,
        prompts,
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        advance=advance,
        sampling=sampling,
    )
    return answers.in_order(len(prompts))


def generate_into(
    answers: Kept[Generated],
    language: LanguageModel,
    prompts: Sequence[TokenIds],
    *,
    max_new_tokens: int,
    batch_size: int,
    advance: Advance = lambda _: None,
    sampling: Sampling | None = None,
) -> None:
    """Answer those prompts that `answers` lacks, and give it each batch at once.

    The batches are those of all prompts, whatever is there already: so the answers are the same.
    """
    # All before the first answer: a long run must not fail at its end.
    for ids in prompts:
        _check_length(language, len(ids) + max_new_tokens)
    # An evaluation that was killed at its very end needs no model any more.
    if not answers.missing(range(len(prompts))):
        advance(len(prompts))
        return
    if language.engine is not None:
        language.engine.answer_into(
            answers,
            prompts,
            max_new_tokens=max_new_tokens,
            sampling=sampling,
            advance=advance,
        )
        return
    import torch

    how = _generation_settings(language, max_new_tokens, sampling)
    lengths = [len(ids) for ids in prompts]
    batches = cut_into_batches(lengths, batch_size, language.batching)
    with torch.inference_mode():
        prefix = _compute_prefix(language, prompts)
        for number, indices in enumerate(batches):
            if answers.missing(indices):
                rows = [prompts[index] for index in indices]
                with _seeded(sampling, number):
                    generated = _generate_batch(language, rows, prefix, how)
                answers.add(indices, generated)
            advance(len(indices))


def measure_completion_losses(
    language: LanguageModel,
    rows: Sequence[tuple[TokenIds, TokenIds]],
    *,
    batch_size: int,
    advance: Advance = lambda _: None,
) -> tuple[float, ...]:
    """Summed loss in nats of each (prompt, completion) over the completion's tokens.

    In the order of `rows`. `UnusableRow` where one does not fit into the context.
    """
    losses: InMemory[float] = InMemory()
    measure_losses_into(
        losses,
        language,
        rows,
        batch_size=batch_size,
        advance=advance,
    )
    return losses.in_order(len(rows))


def measure_losses_into(
    losses: Kept[float],
    language: LanguageModel,
    rows: Sequence[tuple[TokenIds, TokenIds]],
    *,
    batch_size: int,
    advance: Advance = lambda _: None,
) -> None:
    """Measure those rows that `losses` lacks, in the same batches, and give it each at once."""
    sequences = [[*prompt, *completion] for prompt, completion in rows]
    for ids in sequences:
        _check_length(language, len(ids))
    if not losses.missing(range(len(rows))):
        advance(len(rows))
        return
    if language.engine is not None:
        language.engine.measure_into(losses, rows, advance=advance)
        return
    import torch

    completion_lengths = [len(completion) for _, completion in rows]
    longest = max(completion_lengths, default=1)
    rows_at_once = max(1, min(batch_size, _LOGITS_AT_ONCE // longest))
    lengths = [len(ids) for ids in sequences]
    with torch.inference_mode():
        # Of the prompts alone: a completion has to be scored, not cached.
        prompts = [prompt for prompt, _ in rows]
        prefix = _compute_prefix(language, prompts)
        for indices in cut_into_batches(lengths, rows_at_once, language.batching):
            if losses.missing(indices):
                batch_losses = _score_batch(
                    language,
                    [sequences[index] for index in indices],
                    [completion_lengths[index] for index in indices],
                    prefix,
                )
                losses.add(indices, batch_losses)
            advance(len(indices))


def _add_adapter(model: Any, adapter: Path) -> Any:
    from peft import PeftModel

    return PeftModel.from_pretrained(
        model,
        str(adapter),
        is_trainable=False,
    )


def _check_length(language: LanguageModel, tokens: int) -> None:
    if tokens > language.context_tokens:
        raise UnusableRow(
            f"A row needs {tokens} tokens, "
            f"the model's context holds {language.context_tokens}. "
            "Shorten it, or generation.max_new_tokens."
        )


def _compute_prefix(language: LanguageModel, prompts: Sequence[TokenIds]) -> _Prefix:
    """Run the model over what all prompts begin with."""
    import torch

    is_allowed = language.batching is Batching.SHARED_PREFIX
    length = _count_shared_tokens(prompts) if is_allowed else 0
    if not length:
        return _Prefix(0, None)
    shared = list(prompts[0][:length])
    output = language.model(
        input_ids=torch.tensor([shared], device=language.device),
        use_cache=True,
        logits_to_keep=1,
    )
    return _Prefix(length, output.past_key_values)


def _count_shared_tokens(prompts: Sequence[TokenIds]) -> int:
    """Count the tokens that all prompts begin with, without the last token of any.

    The model has to see at least one token of each row to predict the next one.
    """
    if not prompts:
        return 0
    # In lexicographic order, what the two ends share all of them share.
    rows = [tuple(ids) for ids in prompts]
    low, high = min(rows), max(rows)
    shared = 0
    for token, other in zip(low, high, strict=False):
        if token != other:
            break
        shared += 1
    shortest = min(len(ids) for ids in rows)
    return max(0, min(shared, shortest - 1))


def _build_batch(
    language: LanguageModel, rows: Sequence[TokenIds], prefix: _Prefix
) -> _Batch:
    """Pad rows between the shared prefix and the rest, and copy the prefix's cache for them."""
    import torch

    width = max(len(ids) for ids in rows)
    pad_id = language.encoder.pad_id
    padded_rows: list[list[int]] = []
    masks: list[list[int]] = []
    for ids in rows:
        shared = ids[: prefix.length]
        rest = ids[prefix.length :]
        padding = width - len(ids)
        padded_rows.append([*shared, *[pad_id] * padding, *rest])
        masks.append([1] * len(shared) + [0] * padding + [1] * len(rest))
    # The model writes into its cache: each batch gets one of its own.
    cache = copy.deepcopy(prefix.cache)
    if cache is not None:
        cache.batch_repeat_interleave(len(rows))
    return _Batch(
        ids=torch.tensor(padded_rows, device=language.device),
        mask=torch.tensor(masks, device=language.device),
        cache=cache,
    )


def _generation_settings(
    language: LanguageModel, max_new_tokens: int, sampling: Sampling | None
) -> Any:
    from transformers import GenerationConfig

    # Given in full: the base's own generation_config.json may ask for sampling.
    common = {
        "max_new_tokens": max_new_tokens,
        "eos_token_id": language.encoder.end_ids,
        "pad_token_id": language.encoder.pad_id,
    }
    if sampling is None:
        return GenerationConfig(do_sample=False, **common)  # type: ignore[no-untyped-call]
    # All of the distribution: the library's default keeps fifty tokens.
    return GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=True,
        temperature=sampling.temperature,
        top_k=0,
        **common,
    )


@contextmanager
def _seeded(sampling: Sampling | None, batch: int) -> Iterator[None]:
    """Within, chance begins at the seed of that batch; afterwards it goes on as before."""
    import torch

    if sampling is None:
        yield
        return
    with torch.random.fork_rng():
        torch.manual_seed(sampling.seed_of(batch))
        yield


def _generate_batch(
    language: LanguageModel, rows: Sequence[TokenIds], prefix: _Prefix, how: Any
) -> list[Generated]:
    batch = _build_batch(language, rows, prefix)
    output = language.model.generate(
        input_ids=batch.ids,
        attention_mask=batch.mask,
        past_key_values=batch.cache,
        generation_config=how,
    )
    width = batch.ids.shape[1]
    answers = output[:, width:].tolist()
    return [_cut_at_end(ids, language.encoder.end_ids) for ids in answers]


def _keep_known(model: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """Keep the inputs that the model's `forward` names: not every model takes positions."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    parameters = inspect.signature(type(base).forward).parameters
    return {name: tensor for name, tensor in inputs.items() if name in parameters}


def _cut_at_end(ids: list[int], end_ids: list[int]) -> Generated:
    for place, token in enumerate(ids):
        if token in end_ids:
            answer = ids[:place]
            return Generated(tuple(answer), ended=True)
    # The token limit ended it.
    return Generated(tuple(ids), ended=False)


def _score_batch(
    language: LanguageModel,
    rows: Sequence[TokenIds],
    completion_lengths: Sequence[int],
    prefix: _Prefix,
) -> list[float]:
    """Summed loss in nats of each row's last tokens, `completion_lengths` of them.

    Every row ends at the right edge, so that one slice holds the targets of all rows.
    """
    import torch

    batch = _build_batch(language, rows, prefix)
    # Positions count real tokens: padding must not move what comes after it.
    positions = (batch.mask.cumsum(-1) - 1).clamp(min=0)
    # One more than the longest completion: its first token is predicted by the one before.
    logit_count = max(completion_lengths) + 1
    inputs = {
        "input_ids": batch.ids[:, prefix.length :],
        "attention_mask": batch.mask,
        "position_ids": positions[:, prefix.length :],
        "past_key_values": batch.cache,
    }
    output = language.model(
        **_keep_known(language.model, inputs), logits_to_keep=logit_count
    )
    targets = batch.ids[:, -logit_count + 1 :]
    # Cut once more: not every model knows `logits_to_keep`, and some take it and ignore it.
    last_logits = output.logits[:, -logit_count:].float()
    # Over the last axis: `cross_entropy` sums the vocabulary along another one, number by number,
    # which lost 5e-5 nats a token, always to the same side.
    logarithms = last_logits.log_softmax(-1)
    # Each position predicts the next token: the last one predicts none of the row.
    predicted = logarithms[:, :-1].gather(-1, targets[..., None])
    nats = -predicted.squeeze(-1)
    # How far each target is from the right edge, 1 for the last token.
    places = torch.arange(logit_count - 1, 0, -1, device=language.device)
    lengths = torch.tensor(completion_lengths, device=language.device)
    is_completion = places[None, :] <= lengths[:, None]
    # In double: a long completion sums many small numbers.
    totals = (nats.double() * is_completion).sum(-1)
    return [float(total) for total in totals]
