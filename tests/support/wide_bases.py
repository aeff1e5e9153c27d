"""Tiny bases of several families, whose heads are as large as vLLM takes on a processor."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.tiny import CONTEXT_TOKENS, CONTROL_TOKENS, make_tiny_base
from tests.support.vllm_environment import VLLM_HEAD_SIZE

_WINDOW = 16
_SIZES: Mapping[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": VLLM_HEAD_SIZE,
    "max_position_embeddings": CONTEXT_TOKENS,
    "initializer_range": 0.2,
}


@dataclass(frozen=True)
class WideBase:
    """A family by the prefix of its classes in transformers, and what makes it one."""

    name: str
    prefix: str
    own: Mapping[str, Any] = field(default_factory=dict)

    def make(self, folder: Path) -> Path:
        """Write the base of `make_tiny_base`, but with this family's configuration and weights."""
        import torch
        import transformers

        make_tiny_base(folder)
        model_class = getattr(transformers, f"{self.prefix}ForCausalLM")
        config_class = getattr(transformers, f"{self.prefix}Config")
        config = config_class(
            **_SIZES,
            **self.own,
            vocab_size=len(CONTROL_TOKENS) + 256,
            bos_token_id=CONTROL_TOKENS.index("<|im_start|>"),
            eos_token_id=CONTROL_TOKENS.index("<|im_end|>"),
            pad_token_id=CONTROL_TOKENS.index("<|endoftext|>"),
        )
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = model_class(config)
        model.save_pretrained(folder)
        return folder


WIDE_BASES = (
    WideBase("qwen-2", "Qwen2"),
    WideBase("qwen-3", "Qwen3"),
    # Attention over the last few tokens only.
    WideBase("mistral", "Mistral", {"sliding_window": _WINDOW}),
)
