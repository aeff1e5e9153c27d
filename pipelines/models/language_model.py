"""A base model, with an adapter or without: loaded whole, answering greedily, scored by token losses."""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from core.errors import UnusableBaseModel, UnusableRow
from pipelines.models.chat import ChatEncoder
from pipelines.values.base_manifest import BaseModelManifest

if TYPE_CHECKING:
    import torch

Precision = Literal["float32", "bfloat16"]
Advance = Callable[[int], None]
_LOGITS_AT_ONCE = 1024  # rows x completion tokens: bounds the logits of a batch at about 200 MB for 49k tokens of vocabulary


@dataclass(frozen=True)
class Generated:
    """Tokens of one answer, and whether the model ended it by itself."""

    ids: tuple[int, ...]
    ended: bool


@dataclass(frozen=True)
class LanguageModel:
    """Weights on a device, ready for inference, with the encoder that belongs to them."""

    model: Any
    encoder: ChatEncoder
    device: str
    precision: Precision
    context_tokens: int


def load_language_model(
    base: BaseModelManifest,
    folder: Path,
    template: str | None,
    precision: Precision,
    adapter: Path | None = None,
) -> LanguageModel:
    """Load the weights in `folder`, and the LoRA weights in `adapter` on top; both are expected to be checked already."""
    import torch
    from transformers import AutoModelForCausalLM

    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            str(folder),
            dtype=getattr(torch, precision),
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
        )
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        raise UnusableBaseModel(
            f"{base.id} does not load: {(str(error).splitlines() or [type(error).__name__])[0][:160]}. Try it with transformers by itself."
        ) from error
    if adapter is not None:
        model = _with_adapter(model, adapter)
    model = model.to(device).eval()
    return LanguageModel(
        model,
        ChatEncoder.load(folder, template),
        device,
        precision,
        base.context_tokens,
    )


def generate(
    language: LanguageModel,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    batch_size: int,
    advance: Advance = lambda _: None,
) -> tuple[Generated, ...]:
    """Greedy answers in the order of `prompts`. What all prompts begin with is computed once."""
    import torch

    for ids in prompts:
        _check_length(language, len(ids) + max_new_tokens)
    answers: dict[int, Generated] = {}
    with torch.inference_mode():
        prefix = _common_prefix(prompts)
        cache = (
            _prefix_cache(language, prompts[0][:prefix]) if prompts and prefix else None
        )
        for batch in _batches([len(ids) for ids in prompts], batch_size):
            rows = _generate_batch(
                language,
                [prompts[index] for index in batch],
                prefix,
                cache,
                max_new_tokens,
            )
            answers.update(zip(batch, rows, strict=True))
            advance(len(batch))
    return tuple(answers[index] for index in range(len(prompts)))


def completion_losses(
    language: LanguageModel,
    rows: Sequence[tuple[Sequence[int], Sequence[int]]],
    *,
    batch_size: int,
    advance: Advance = lambda _: None,
) -> tuple[float, ...]:
    """Summed loss in nats of each (prompt, completion) over the completion's tokens, in the order of `rows`."""
    import torch

    whole = [[*prompt, *completion] for prompt, completion in rows]
    for ids in whole:
        _check_length(language, len(ids))
    losses: dict[int, float] = {}
    with torch.inference_mode():
        prefix = _common_prefix([prompt for prompt, _ in rows])
        cache = (
            _prefix_cache(language, rows[0][0][:prefix]) if rows and prefix else None
        )
        longest = max((len(completion) for _, completion in rows), default=1)
        for batch in _batches(
            [len(ids) for ids in whole],
            max(1, min(batch_size, _LOGITS_AT_ONCE // longest)),
        ):
            found = _loss_batch(
                language,
                [whole[index] for index in batch],
                [len(rows[index][1]) for index in batch],
                prefix,
                cache,
            )
            losses.update(zip(batch, found, strict=True))
            advance(len(batch))
    return tuple(losses[index] for index in range(len(rows)))


def _with_adapter(model: Any, adapter: Path) -> Any:
    from peft import PeftModel

    return PeftModel.from_pretrained(model, str(adapter), is_trainable=False)


def _check_length(language: LanguageModel, tokens: int) -> None:
    if tokens > language.context_tokens:
        raise UnusableRow(
            f"A row needs {tokens} tokens, the model's context holds {language.context_tokens}. Shorten it, or generation.max_new_tokens."
        )


def _common_prefix(prompts: Sequence[Sequence[int]]) -> int:
    """How many tokens all prompts begin with; at least the last token of each stays out of it."""
    if not prompts:
        return 0
    first, last = (
        min(map(tuple, prompts)),
        max(map(tuple, prompts)),
    )  # in lexicographic order, what these two share all share
    shared = next(
        (
            place
            for place, (a, b) in enumerate(zip(first, last, strict=False))
            if a != b
        ),
        min(len(first), len(last)),
    )
    return max(0, min(shared, min(len(ids) for ids in prompts) - 1))


def _prefix_cache(language: LanguageModel, prefix: Sequence[int]) -> Any:
    import torch

    return language.model(
        input_ids=torch.tensor([list(prefix)], device=language.device),
        use_cache=True,
        logits_to_keep=1,
    ).past_key_values


def _batches(lengths: Sequence[int], size: int) -> Iterator[list[int]]:
    """Indices by falling length, so that a batch holds little padding and memory runs out at once or never."""
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    for start in range(0, len(order), size):
        yield order[start : start + size]


def _padded(
    language: LanguageModel, rows: Sequence[Sequence[int]], prefix: int, cache: Any
) -> tuple["torch.Tensor", "torch.Tensor", Any]:
    """Rows as a tensor, padded between the shared prefix and the rest, with its mask and a copy of the prefix's cache."""
    import torch

    width = max(len(ids) for ids in rows)
    pad = language.encoder.pad_id
    filled = [
        [*ids[:prefix], *[pad] * (width - len(ids)), *ids[prefix:]] for ids in rows
    ]
    mask = [
        [1] * prefix + [0] * (width - len(ids)) + [1] * (len(ids) - prefix)
        for ids in rows
    ]
    own = copy.deepcopy(cache)
    if own is not None:
        own.batch_repeat_interleave(len(rows))
    return (
        torch.tensor(filled, device=language.device),
        torch.tensor(mask, device=language.device),
        own,
    )


def _generate_batch(
    language: LanguageModel,
    rows: Sequence[Sequence[int]],
    prefix: int,
    cache: Any,
    max_new_tokens: int,
) -> list[Generated]:
    from transformers import GenerationConfig

    ids, mask, own = _padded(language, rows, prefix, cache)
    greedy = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=False,
        max_new_tokens=max_new_tokens,
        eos_token_id=language.encoder.end_ids,
        pad_token_id=language.encoder.pad_id,
    )
    out = language.model.generate(
        input_ids=ids,
        attention_mask=mask,
        past_key_values=own,
        generation_config=greedy,
    )
    return [
        _until_end(new, language.encoder.end_ids)
        for new in out[:, ids.shape[1] :].tolist()
    ]


def _until_end(ids: list[int], end_ids: list[int]) -> Generated:
    for place, token in enumerate(ids):
        if token in end_ids:
            return Generated(tuple(ids[:place]), ended=True)
    return Generated(tuple(ids), ended=False)


def _loss_batch(
    language: LanguageModel,
    rows: Sequence[Sequence[int]],
    completions: Sequence[int],
    prefix: int,
    cache: Any,
) -> list[float]:
    import torch

    ids, mask, own = _padded(language, rows, prefix, cache)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    keep = max(completions) + 1
    out = language.model(
        input_ids=ids[:, prefix:],
        attention_mask=mask,
        position_ids=positions[:, prefix:],
        past_key_values=own,
        logits_to_keep=keep,
    )
    targets = ids[:, -keep + 1 :]
    nats = torch.nn.functional.cross_entropy(
        out.logits[:, :-1].float().transpose(1, 2), targets, reduction="none"
    )
    places = torch.arange(
        keep - 1, 0, -1, device=language.device
    )  # how far each target stands from the end
    counted = (
        places[None, :] <= torch.tensor(completions, device=language.device)[:, None]
    )
    return [float(total) for total in (nats.double() * counted).sum(-1)]
