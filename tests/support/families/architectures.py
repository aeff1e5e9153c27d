"""Kinds of layers and caches beside those of the families: each is a model without a template.

What differs is only how a model attends and what it remembers, so only answers and losses are
compared.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from tests.support.families.family import SMALL, Family, Layout
from tests.support.families.tokenizers import byte_level

_END = "<|endoftext|>"
_WITHOUT_GROUPS = {
    key: size for key, size in SMALL.items() if key != "num_key_value_heads"
}
_WINDOW = {"sliding_window": 16}
_GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512}
_NOISE = {"initializer_range": 0.2}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2}
_ROUTED = {
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "first_k_dense_replace": 1,
    "n_group": 1,
    "topk_group": 1,
}
_LATENT = {
    "kv_lora_rank": 16,
    "q_lora_rank": None,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "num_key_value_heads": 4,
}
_STATE = {
    "mamba_n_heads": 8,
    "mamba_d_head": 8,
    "mamba_d_state": 8,
    "mamba_chunk_size": 8,
}
_FALCON = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "new_decoder_architecture": False,
    "max_position_embeddings": 512,
}

# The prefix of both classes' names, and what its configuration takes.
_SIZES: Mapping[str, Mapping[str, Any]] = {
    "GPTNeoX": SMALL,
    "GPTJ": {**_GPT, **_NOISE, "rotary_dim": 4},
    "GPTNeo": {
        **_NOISE,
        "hidden_size": 32,
        "num_layers": 2,
        "num_heads": 4,
        "attention_types": [[["global", "local"], 1]],
        "window_size": 16,
        "max_position_embeddings": 512,
    },
    "GPTBigCode": {**_GPT, **_NOISE, "multi_query": True},
    "CodeGen": {**_GPT, **_NOISE, "n_ctx": 512, "rotary_dim": 4},
    "Falcon": {**_FALCON, **_NOISE, "alibi": True, "multi_query": False},
    "Mpt": {**_NOISE, "d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 512},
    "BioGpt": _WITHOUT_GROUPS,
    "StableLm": SMALL,
    "Olmo2": SMALL,
    "Olmo3": {**SMALL, **_WINDOW, "num_hidden_layers": 4},
    "Olmoe": {**SMALL, **_EXPERTS},
    "Cohere": SMALL,
    "Cohere2": {**SMALL, **_WINDOW, "num_hidden_layers": 4},
    "DeepseekV2": {**SMALL, **_LATENT, **_ROUTED},
    "DeepseekV3": {**SMALL, **_LATENT, **_ROUTED, "q_lora_rank": 16},
    "GptOss": {
        **SMALL,
        **_WINDOW,
        "head_dim": 16,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
    },
    "Exaone4": {**SMALL, **_WINDOW, "sliding_window_pattern": 2},
    "Glm4": {**SMALL, "head_dim": 16},
    "Nemotron": SMALL,
    "Ministral": {**SMALL, **_WINDOW, "head_dim": 16},
    "VaultGemma": {**SMALL, **_WINDOW, "head_dim": 16},
    "JetMoe": {**SMALL, "kv_channels": 8, "num_local_experts": 4},
    "DiffLlama": SMALL,
    "Mamba2": {
        "hidden_size": 32,
        "state_size": 8,
        "num_hidden_layers": 2,
        "num_heads": 8,
        "head_dim": 8,
        "n_groups": 1,
        "chunk_size": 8,
    },
    "Jamba": {
        **SMALL,
        "num_hidden_layers": 4,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "num_experts": 2,
        "num_experts_per_tok": 1,
        "use_mamba_kernels": False,
        "mamba_d_state": 8,
    },
    "Bamba": {**SMALL, **_STATE, "num_hidden_layers": 3, "attn_layer_indices": [1]},
    "FalconH1": {**SMALL, **_STATE, "mamba_d_ssm": 64, "head_dim": 8},
    "GraniteMoeHybrid": {
        **SMALL,
        **_STATE,
        "num_hidden_layers": 3,
        "layer_types": ["mamba", "attention", "mamba"],
        "num_local_experts": 0,
        "shared_intermediate_size": 64,
    },
    "RecurrentGemma": {
        **SMALL,
        "num_hidden_layers": 3,
        "attention_window_size": 16,
        "lru_width": 32,
        "block_types": ["recurrent", "recurrent", "attention"],
    },
    "MiniMax": {
        **SMALL,
        "head_dim": 8,
        "num_hidden_layers": 4,
        "layer_types": ["linear_attention", "full_attention"] * 2,
        "num_local_experts": 2,
        "block_size": 16,
    },
    "Lfm2Moe": {
        **SMALL,
        **_EXPERTS,
        "num_hidden_layers": 4,
        "layer_types": ["conv", "full_attention"] * 2,
        "num_dense_layers": 1,
        "moe_intermediate_size": 16,
    },
}


def _write(prefix: str, folder: Path) -> None:
    import transformers

    tokenizer = byte_level((_END,), bos_token=_END, eos_token=_END)
    end = tokenizer.number(_END)
    named = {"bos_token_id": end, "eos_token_id": end, "pad_token_id": end}
    config_class = getattr(transformers, f"{prefix}Config")
    Layout(
        tokenizer,
        f"{prefix}ForCausalLM",
        config_class(vocab_size=tokenizer.size + 7, **_SIZES[prefix], **named),
        generation=named,
        stops=(_END,),
    ).write(folder)


ARCHITECTURES = tuple(
    Family(
        prefix,
        prefix,
        "",
        partial(_write, prefix),
        (_END,),
        context_tokens=None,
        has_template=False,
    )
    for prefix in _SIZES
)
