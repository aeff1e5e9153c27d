"""A family of base models as a test covers it, and the files that its layout consists of."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.families.tokenizers import TokenizerFiles

CONTEXT_TOKENS = 512
SMALL: Mapping[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT_TOKENS,
    "initializer_range": 0.2,
}
"""Sizes that most configurations share."""
_STOP_SCALE = 1.5
"""Length of a stop token's output row beside the others': some answers end, and some do not."""
_EMBEDDING_SCALE = 0.3
_MIXING_SCALE = 2.0
_MIXING = ("proj.weight", "dense.weight", "attn.weight", "attention.weight")
"""Ends of names of the matrices that mix tokens or channels."""

_SILENT_BYTES = range(0x80, 0x100)
_SILENCE = 0.05


# Of a mixture of experts: what its experts get is no plain LoRA.
ATTENTION_MODULES = ("q_proj", "k_proj", "v_proj", "o_proj")


@dataclass(frozen=True)
class Family:
    """A published family: how its layout is written, and what it promises.

    `stops` are the tokens at which the family's own software ends an answer, the first of them
    the one that its template writes. `refusal` is a part of the sentence that refuses it, None
    where it is right. `options` are what its own software gives to the template.
    """

    name: str
    title: str
    layout: str
    write: Callable[[Path], None]
    stops: tuple[str, ...]
    context_tokens: int | None = CONTEXT_TOKENS
    has_template: bool = True
    has_system_turn: bool = True
    is_dated: bool = False
    # Where the last token of a prompt and the first one of its answer can make one.
    joins_tokens: bool = False
    # What LoRA is put on; some layers take none.
    lora_modules: str | tuple[str, ...] = "all-linear"
    options: Mapping[str, Any] = field(default_factory=dict)
    refusal: str | None = None


@dataclass(frozen=True)
class Layout:
    """The files of one base model, before they are written."""

    tokenizer: TokenizerFiles
    model_class: str
    config: Any
    generation: Mapping[str, Any] | None = None
    # A list is what older tokenizers hold: templates by name.
    template: str | Sequence[Mapping[str, str]] | None = None
    has_template_file: bool = False
    stops: tuple[str, ...] = ()
    seed: int = 0

    def write(self, folder: Path) -> None:
        """Write tokenizer, settings, template, configuration and weights into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        self._write_weights(folder)
        self._write_tokenizer(folder)
        # Last: saving weights writes one of its own.
        generation = folder / "generation_config.json"
        if self.generation is None:
            generation.unlink(missing_ok=True)
        else:
            _write_json(generation, self.generation)

    def _write_weights(self, folder: Path) -> None:
        import torch
        import transformers

        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            model = getattr(transformers, self.model_class)(self.config)
        _let_context_matter(model)
        _emphasise(model, self.tokenizer.numbers(*self.stops))
        _silence(model, self.tokenizer.byte_numbers(_SILENT_BYTES))
        model.save_pretrained(folder)

    def _write_tokenizer(self, folder: Path) -> None:
        self.tokenizer.core.save(str(folder / "tokenizer.json"))
        settings = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": False,
            "model_max_length": CONTEXT_TOKENS,
            **self.tokenizer.settings,
            "added_tokens_decoder": self._added_tokens(),
        }
        if self.template is not None and self.has_template_file:
            path = folder / "chat_template.jinja"
            path.write_text(str(self.template), encoding="utf-8")
        elif self.template is not None:
            settings["chat_template"] = self.template
        _write_json(folder / "tokenizer_config.json", settings)

    def _added_tokens(self) -> dict[str, dict[str, Any]]:
        """The added tokens once more, as tokenizer_config.json of published models has them."""
        core = json.loads(self.tokenizer.core.to_str())
        return {str(token.pop("id")): token for token in core["added_tokens"]}


def _let_context_matter(model: Any) -> None:
    """Strengthen layers beside embeddings: noise with tied embeddings repeats its last token."""
    import torch

    embeddings = model.get_input_embeddings().weight
    is_tied = embeddings is model.get_output_embeddings().weight
    with torch.no_grad():
        if is_tied:
            embeddings.mul_(_EMBEDDING_SCALE)
        for name, weights in model.named_parameters():
            if name.endswith(_MIXING) and weights.dim() > 1:
                weights.mul_(_MIXING_SCALE)


def _emphasise(model: Any, stops: Sequence[int]) -> None:
    import torch

    rows = model.get_output_embeddings().weight
    with torch.no_grad():
        rows[list(stops)] *= _STOP_SCALE


def _silence(model: Any, numbers: Sequence[int]) -> None:
    """Have noise write no half of a letter: whole texts and pieces of them decode otherwise."""
    import torch

    rows = model.get_output_embeddings().weight
    with torch.no_grad():
        rows[list(numbers)] *= _SILENCE


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1), encoding="utf-8")
