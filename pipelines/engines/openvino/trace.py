"""One forward of a model, recorded as a graph of torch: past keys and values in, new ones out.

    ids, positions, past keys and values, what adapters need ──▶ logits, keys and values

What is recorded is what transformers and peft compute: there are no names of weights to match, and
an adapter's scale cannot be forgotten.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from transformers import AttentionInterface
from transformers.cache_utils import Cache, DynamicLayer

from pipelines.engines import NotTaken
from pipelines.engines.slots import HeadShape

_ATTENTION = "assay_recorded"
# What attention of some families takes beside a mask and a scale: `softcap`, `s_aux`, …
_HARMLESS = {"is_causal", "position_ids", "use_cache", "cache_position"}
# Of the example that is recorded. No two sizes are alike, so that none passes for another.
_ROWS, _TOKENS, _PAST = 2, 3, 5

INPUTS = (
    "input_ids",
    "position_ids",
    "attention_mask",
    "beam_idx",
    "wanted",
)
"""Names of the graph's inputs in their order; those of adapters and of the past follow."""


@dataclass(frozen=True)
class AdapterInput:
    """An input of the graph that decides what adapters add."""

    name: str
    # What it is while the graph is recorded.
    example: torch.Tensor
    # -1 for what may have another size then.
    shape: tuple[int, ...]


class Adapters(Protocol):
    """What makes a model compute by its graph's inputs what adapters add."""

    inputs: Sequence[AdapterInput]

    def use(self, tensors: Sequence[torch.Tensor]) -> None:
        """Have the forward that is recorded compute with these."""

    def restore(self) -> None:
        """Leave the model as it was."""


@dataclass(frozen=True)
class Recorded:
    """A graph of torch, and what its inputs look like."""

    graph: Any
    adapters: Sequence[AdapterInput]
    # Of the keys and the values of each layer.
    shapes: Sequence[tuple[HeadShape, HeadShape]]


def record(
    model: Any,
    shapes: Sequence[tuple[HeadShape, HeadShape]],
    adapters: Adapters | None = None,
) -> Recorded:
    """Record a forward of a model with its adapter; `NotTaken` where that cannot be done.

    `adapters` is how its adapters become inputs; None: the one that peft put on it, by its share.
    """
    try:
        by_inputs = adapters or Share(model)
        graph = _trace(model, shapes, by_inputs)
    except NotTaken:
        raise
    except Exception as error:
        fact = f"{type(error).__name__}: {str(error)[:200]}"
        raise NotTaken(f"its forward cannot be recorded ({fact})") from error
    return Recorded(graph, by_inputs.inputs, shapes)


def _trace(
    model: Any, shapes: Sequence[tuple[HeadShape, HeadShape]], adapters: Adapters
) -> Any:
    examples = [each.example for each in adapters.inputs]
    example = _make_example(shapes, examples)
    forward = _Forward(model, adapters).eval()
    try:
        with torch.no_grad(), _own_attention(model), warnings.catch_warnings():
            # It warns of each shape that it reads, and of a successor that OpenVINO reads less
            # well.
            warnings.simplefilter("ignore")
            return torch.jit.trace(  # type: ignore[no-untyped-call]
                forward, example, check_trace=False
            )
    finally:
        forward.restore()


def _make_example(
    shapes: Sequence[tuple[HeadShape, HeadShape]], adapters: Sequence[torch.Tensor]
) -> tuple[torch.Tensor, ...]:
    tokens = torch.ones(_ROWS, _TOKENS, dtype=torch.long)
    positions = torch.arange(_PAST, _PAST + _TOKENS).expand(_ROWS, _TOKENS)
    mask = torch.zeros(_ROWS, 1, _TOKENS, _PAST + _TOKENS)
    rows = torch.arange(_ROWS)
    wanted = torch.tensor([0, 1, 4, 5])
    past = []
    for pair in shapes:
        for shape in pair:
            states = shape.zeros(_ROWS, _PAST)
            past.append(states)
    return tokens, positions, mask, rows, wanted, *adapters, *past


class Share:
    """The share of an adapter that peft put on a model: 1, or 0 for the base alone."""

    def __init__(self, model: Any) -> None:
        """`NotTaken` where a layer computes more than a scaled product of two matrices."""
        share = AdapterInput("share", torch.ones(1), (1,))
        self.inputs: Sequence[AdapterInput] = (share,)
        # Where peft keeps the scale of each adapted layer: alpha by rank, as it was trained.
        self._scales: list[tuple[dict[str, Any], str, float]] = []
        for module in model.modules():
            scales = getattr(module, "scaling", None)
            if not isinstance(scales, dict):
                continue
            if getattr(module, "lora_variant", None):
                raise NotTaken("its adapter is no plain LoRA")
            for name, scale in scales.items():
                self._scales.append((scales, name, float(scale)))

    def use(self, tensors: Sequence[torch.Tensor]) -> None:
        """Have each layer scale by the share as well."""
        (share,) = tensors
        for scales, name, scale in self._scales:
            scales[name] = scale * share

    def restore(self) -> None:
        """Have each layer scale as it was trained."""
        for scales, name, scale in self._scales:
            scales[name] = scale


class _Forward(torch.nn.Module):
    """A model's forward with everything that it needs as an argument."""

    def __init__(self, model: Any, adapters: Adapters) -> None:
        super().__init__()
        self._model = model
        self._wanted: torch.Tensor | None = None
        self._adapters = adapters
        head = model.get_output_embeddings()
        self._hook = head.register_forward_pre_hook(self._choose_wanted)

    def restore(self) -> None:
        """Leave the model as it was."""
        self._hook.remove()
        self._adapters.restore()

    def forward(
        self,
        input_ids: torch.Tensor,
        position_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        beam_idx: torch.Tensor,
        wanted: torch.Tensor,
        *more: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        """Logits of the `wanted` positions, then keys and values of each layer."""
        self._wanted = wanted
        count = len(self._adapters.inputs)
        self._adapters.use(more[:count])
        past = more[count:]
        layers = []
        for keys, values in zip(past[::2], past[1::2], strict=True):
            own_keys = keys.index_select(0, beam_idx)
            own_values = values.index_select(0, beam_idx)
            layers.append(_PastLayer(own_keys, own_values))
        output = self._model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=Cache(layers=list(layers)),
            use_cache=True,
        )
        states = []
        for layer in layers:
            states += [layer.all_keys, layer.all_values]
        return output.logits, *states

    def _choose_wanted(self, _: Any, inputs: tuple[torch.Tensor, ...]) -> Any:
        """Compute the logits of some positions alone: they are a fifth of a small model's work."""
        hidden, *rest = inputs
        if self._wanted is None:
            return None
        size = hidden.shape[-1]
        flat = hidden.reshape(-1, size)
        chosen = flat.index_select(0, self._wanted)
        return chosen.unsqueeze(1), *rest


class _PastLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """Keys and values that stand before those of this forward."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._past = keys, values
        self.all_keys = keys
        self.all_values = values

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Put new states behind the past ones, and give both."""
        keys, values = self._past
        self.all_keys = torch.cat([keys, key_states], dim=2)
        self.all_values = torch.cat([values, value_states], dim=2)
        return self.all_keys, self.all_values


@contextmanager
def _own_attention(model: Any) -> Iterator[None]:
    """Within, a model's attention is one operation of the graph."""
    AttentionInterface.register(_ATTENTION, _attend)
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    # transformers has no other name for it.
    earlier = base.config._attn_implementation  # noqa: SLF001
    base.set_attn_implementation(_ATTENTION)
    try:
        yield
    finally:
        base.set_attn_implementation(earlier)


def _attend(
    _: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """Attention as transformers asks for it: (rows, heads, tokens, size) to (rows, tokens, …)."""
    unknown = [name for name, setting in more.items() if setting is not None]
    unknown = sorted(set(unknown) - _HARMLESS)
    if unknown or dropout:
        raise ValueError(f"its attention takes {', '.join(unknown)}")
    # Numbers, not parts of the graph: they are the model's own.
    groups = int(query.shape[1]) // int(key.shape[1])
    size = int(query.shape[-1])
    output = torch.nn.functional.scaled_dot_product_attention(
        query,
        _repeat(key, groups),
        _repeat(value, groups),
        attn_mask=attention_mask,
        scale=scaling or size**-0.5,
    )
    return output.transpose(1, 2).contiguous(), None


def _repeat(states: torch.Tensor, times: int) -> torch.Tensor:
    """Each head so many times, in the form in which OpenVINO recognises it."""
    if times == 1:
        return states
    rows, heads, tokens, size = states.shape
    all_heads = int(heads) * times
    wide = states.unsqueeze(2).expand(-1, -1, times, -1, -1)
    return wide.reshape(rows, all_heads, tokens, int(size))
