"""How rows of different lengths may be put into one batch of a model without changing an answer.

    SHARED_PREFIX   what all rows begin with is computed once; padding between it and the rest
    LEFT_PADDING    padding in front of the rows
    EQUAL_LENGTHS   no padding: only rows of one length share a batch

A mask hides padding from attention over the whole row. Attention over the last tokens only counts
padding that stands between two of them. A recurrent state would take padding in. Positions that
stretch with the longest row of a batch change the others.
"""

import inspect
from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Any

# Attributes of a configuration under which models have attention over a part of the row.
_WINDOWS = ("sliding_window", "attention_window", "window_size", "attention_chunk_size")
# Kinds of rotary positions, as transformers calls them.
_STRETCHING = {"dynamic", "longrope"}


class Batching(Enum):
    """What may share a batch."""

    SHARED_PREFIX = "shared prefix"
    LEFT_PADDING = "left padding"
    EQUAL_LENGTHS = "equal lengths"


def choose_batching(model: Any) -> Batching:
    """Choose for a model of transformers, by the cache that it fills and by its configuration."""
    from transformers.cache_utils import DynamicLayer

    parameters = inspect.signature(type(model).forward).parameters
    kinds = _list_cache_layers(model)
    # Of a cache that nobody knows, nothing is known.
    is_known = "past_key_values" in parameters and bool(kinds)
    if not is_known or _is_recurrent(model, kinds) or _stretches(model):
        return Batching.EQUAL_LENGTHS
    is_over_whole_row = kinds == {DynamicLayer} and not _has_window(model)
    # Without positions a model counts them itself, padding included.
    if is_over_whole_row and "position_ids" in parameters:
        return Batching.SHARED_PREFIX
    return Batching.LEFT_PADDING


def cut_into_batches(
    lengths: Sequence[int], size: int, batching: Batching
) -> Iterator[list[int]]:
    """Yield indices by falling length, at most `size` a batch.

    A batch holds little padding, and memory runs out in the first batch or never.
    """
    indices = list(range(len(lengths)))
    # Stable: rows of one length stay in their order.
    indices.sort(key=lambda index: -lengths[index])
    batch: list[int] = []
    for index in indices:
        is_full = len(batch) == size
        is_other = bool(batch) and lengths[index] != lengths[batch[0]]
        if is_full or (is_other and batching is Batching.EQUAL_LENGTHS):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _list_cache_layers(model: Any) -> set[type]:
    """Kinds of cache layers that the model's configuration asks for; none where it fails."""
    from transformers import DynamicCache

    try:
        cache = DynamicCache(config=_get_text_config(model))
    except (AttributeError, TypeError, ValueError, KeyError):
        return set()
    return {type(layer) for layer in cache.layers}


def _is_recurrent(model: Any, kinds: set[type]) -> bool:
    from transformers.cache_utils import LinearAttentionCacheLayerMixin

    # transformers' own mark for states that cannot be rolled back.
    if getattr(type(model), "_is_stateful", False):
        return True
    return any(issubclass(kind, LinearAttentionCacheLayerMixin) for kind in kinds)


def _stretches(model: Any) -> bool:
    """Whether rotary positions depend on how long the longest row of a batch is."""
    config = _get_text_config(model)
    settings = getattr(config, "rope_parameters", None) or {}
    # Some models have settings of their own for each kind of layer.
    nested = [entry for entry in settings.values() if isinstance(entry, dict)]
    kinds = {entry.get("rope_type") for entry in (settings, *nested)}
    stretching = kinds & _STRETCHING
    return bool(stretching)


def _has_window(model: Any) -> bool:
    config = _get_text_config(model)
    # Not every model's cache tells: those of GPT-Neo's local layers look like the others.
    windows = [getattr(config, name, None) for name in _WINDOWS]
    return any(windows)


def _get_text_config(model: Any) -> Any:
    """The part about text, of a model that also takes pictures."""
    return model.config.get_text_config(decoder=True)
