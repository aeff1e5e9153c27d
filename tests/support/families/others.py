"""Phi, GPT-2, OPT, Bloom, LFM2, Granite, StarCoder2 and state spaces."""

from pathlib import Path
from typing import Any

from tests.support.families import templates
from tests.support.families.family import CONTEXT_TOKENS, SMALL, Family, Layout
from tests.support.families.llamas import NAMED, PIECES
from tests.support.families.tokenizers import (
    Control,
    TokenizerFiles,
    byte_level,
    prepends_word_mark,
    sentence_pieces,
)

_END_OF_TEXT = "<|endoftext|>"
GPT_2_CONTEXT = 256
_ORIGINAL_CONTEXT = 64


def write_phi_3(folder: Path) -> None:
    """Control tokens that swallow the space behind them; a sliding window."""
    from transformers import Phi3Config

    tokenizer = _phi_tokenizer()
    config = Phi3Config(**_phi_sizes(tokenizer), sliding_window=48)
    _write_phi(folder, tokenizer, config)


def write_phi_3_long(folder: Path) -> None:
    """Two sets of frequencies: the longest row of a batch decides which."""
    from transformers import Phi3Config

    tokenizer = _phi_tokenizer()
    head = SMALL["hidden_size"] // SMALL["num_attention_heads"]
    stretched = {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "short_factor": [1.0] * (head // 2),
        "long_factor": [4.0] * (head // 2),
    }
    config = Phi3Config(
        **_phi_sizes(tokenizer),
        rope_parameters=stretched,
        original_max_position_embeddings=_ORIGINAL_CONTEXT,
    )
    _write_phi(folder, tokenizer, config)


def _phi_tokenizer() -> TokenizerFiles:
    roles = ("<|assistant|>", "<|system|>", "<|end|>", "<|user|>")
    settings: dict[str, Any] = {
        **NAMED,
        "eos_token": _END_OF_TEXT,
        "pad_token": _END_OF_TEXT,
        "tokenizer_class": "LlamaTokenizer",
        "legacy": False,
        "add_bos_token": False,
        "add_eos_token": False,
    }
    return sentence_pieces(
        PIECES,
        (_END_OF_TEXT, *(Control(token, strips_right=True) for token in roles)),
        shape=prepends_word_mark,
        **settings,
    )


def _phi_sizes(tokenizer: TokenizerFiles) -> dict[str, Any]:
    end = tokenizer.number(_END_OF_TEXT)
    return {
        **SMALL,
        "vocab_size": tokenizer.size,
        "bos_token_id": 1,
        "eos_token_id": end,
        "pad_token_id": end,
    }


def _write_phi(folder: Path, tokenizer: TokenizerFiles, config: Any) -> None:
    ends = tokenizer.numbers(_END_OF_TEXT, "<|assistant|>", "<|end|>")
    Layout(
        tokenizer,
        "Phi3ForCausalLM",
        config,
        generation={
            "bos_token_id": 1,
            "eos_token_id": ends,
            "pad_token_id": ends[0],
        },
        template=templates.TAGGED_ROLES,
        stops=("<|end|>",),
    ).write(folder)


def write_phi_2(folder: Path) -> None:
    """Attention and feed-forward side by side; no template."""
    from transformers import PhiConfig

    tokenizer = _gpt_tokenizer("CodeGenTokenizer")
    sizes = {**SMALL, "num_key_value_heads": None, "partial_rotary_factor": 0.5}
    _write_plain(folder, tokenizer, "PhiForCausalLM", PhiConfig, sizes)


def write_starcoder_2(folder: Path) -> None:
    """A sliding window in a model of code; no template."""
    from transformers import Starcoder2Config

    tokenizer = _gpt_tokenizer("GPT2Tokenizer")
    sizes = {**SMALL, "sliding_window": 20, "use_bias": True}
    _write_plain(folder, tokenizer, "Starcoder2ForCausalLM", Starcoder2Config, sizes)


def write_gpt_2(folder: Path) -> None:
    """The context is called n_positions; one token begins, ends and is all there is."""
    from transformers import GPT2Config

    tokenizer = _gpt_tokenizer("GPT2Tokenizer")
    sizes = {
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 4,
        "n_positions": GPT_2_CONTEXT,
        "initializer_range": 0.2,
    }
    _write_plain(folder, tokenizer, "GPT2LMHeadModel", GPT2Config, sizes)


def write_opt(folder: Path) -> None:
    """`</s>` before every text and at its end; positions begin at two."""
    from transformers import OPTConfig

    tokenizer = byte_level(
        ("<s>", "<pad>", "</s>", "<unk>"),
        is_control_first=True,
        tokenizer_class="GPT2Tokenizer",
        bos_token="</s>",
        eos_token="</s>",
        unk_token="</s>",
        pad_token="<pad>",
        add_bos_token=True,
    ).puts_before_text("</s>")
    config = OPTConfig(
        vocab_size=tokenizer.size,
        hidden_size=32,
        word_embed_proj_dim=32,
        ffn_dim=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=CONTEXT_TOKENS,
        init_std=0.2,
        bos_token_id=2,
        eos_token_id=2,
        pad_token_id=1,
    )
    Layout(
        tokenizer,
        "OPTForCausalLM",
        config,
        generation={"bos_token_id": 2, "eos_token_id": 2, "pad_token_id": 1},
        stops=("</s>",),
    ).write(folder)


def write_bloom(folder: Path) -> None:
    """No positions: attention falls with distance."""
    from transformers import BloomConfig

    tokenizer = byte_level(
        ("<unk>", "<s>", "</s>", "<pad>"),
        is_control_first=True,
        **NAMED,
        pad_token="<pad>",
        padding_side="left",
        tokenizer_class="BloomTokenizer",
    )
    config = BloomConfig(
        vocab_size=tokenizer.size,
        hidden_size=32,
        n_layer=2,
        n_head=4,
        initializer_range=0.2,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=3,
    )
    Layout(
        tokenizer,
        "BloomForCausalLM",
        config,
        generation={"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 3},
        stops=("</s>",),
    ).write(folder)


def write_lfm_2(folder: Path) -> None:
    """Short convolutions beside attention."""
    from transformers import Lfm2Config

    tokenizer = byte_level(
        ("<|pad|>", "<|startoftext|>", _END_OF_TEXT, "<|im_start|>", "<|im_end|>"),
        is_control_first=True,
        bos_token="<|startoftext|>",
        eos_token="<|im_end|>",
        pad_token="<|pad|>",
    ).puts_before_text("<|startoftext|>")
    end = tokenizer.number("<|im_end|>")
    config = Lfm2Config(
        **{**SMALL, "num_hidden_layers": 4},
        vocab_size=tokenizer.size,
        layer_types=["conv", "full_attention", "conv", "full_attention"],
        block_auto_adjust_ff_dim=False,
        bos_token_id=1,
        eos_token_id=end,
        pad_token_id=0,
    )
    Layout(
        tokenizer,
        "Lfm2ForCausalLM",
        config,
        generation={"bos_token_id": 1, "eos_token_id": end, "pad_token_id": 0},
        template=templates.BEGUN_CHATML,
        has_template_file=True,
        stops=("<|im_end|>",),
        seed=1,
    ).write(folder)


def write_granite(folder: Path) -> None:
    """Scaled embeddings, residuals and logits."""
    from transformers import GraniteConfig

    tokenizer = _gpt_tokenizer("GPT2Tokenizer")
    scales = {
        "embedding_multiplier": 6.0,
        "logits_scaling": 4.0,
        "residual_multiplier": 0.5,
        "attention_multiplier": 0.2,
    }
    _write_plain(
        folder, tokenizer, "GraniteForCausalLM", GraniteConfig, {**SMALL, **scales}
    )


def write_mamba(folder: Path) -> None:
    """A state space: no attention at all."""
    from transformers import MambaConfig

    _write_state_space(folder, "MambaForCausalLM", MambaConfig)


def write_falcon_mamba(folder: Path) -> None:
    """A state space with normalised steps."""
    from transformers import FalconMambaConfig

    _write_state_space(folder, "FalconMambaForCausalLM", FalconMambaConfig)


def _write_state_space(folder: Path, model_class: str, config_class: Any) -> None:
    tokenizer = _gpt_tokenizer("GPTNeoXTokenizer")
    sizes = {"hidden_size": 32, "state_size": 8, "num_hidden_layers": 2}
    _write_plain(folder, tokenizer, model_class, config_class, sizes)


def _gpt_tokenizer(tokenizer_class: str) -> TokenizerFiles:
    return byte_level(
        (_END_OF_TEXT,),
        tokenizer_class=tokenizer_class,
        unk_token=_END_OF_TEXT,
        bos_token=_END_OF_TEXT,
        eos_token=_END_OF_TEXT,
    )


def _write_plain(
    folder: Path,
    tokenizer: TokenizerFiles,
    model_class: str,
    config_class: Any,
    sizes: dict[str, Any],
) -> None:
    """A base model without a template, whose one control token has the last id."""
    end = tokenizer.number(_END_OF_TEXT)
    named = {"bos_token_id": end, "eos_token_id": end}
    Layout(
        tokenizer,
        model_class,
        # More rows than tokens, as many published models have.
        config_class(vocab_size=tokenizer.size + 7, **sizes, **named),
        generation=named,
        stops=(_END_OF_TEXT,),
    ).write(folder)


_PHI_STOPS = ("<|end|>", _END_OF_TEXT, "<|assistant|>")
_GPT_STOPS = (_END_OF_TEXT,)
_STATE_SPACE_MODULES = ("in_proj", "x_proj", "dt_proj")

OTHERS = (
    Family(
        "phi-3",
        "Phi-3",
        "control tokens that swallow the space behind them; a sliding window",
        write_phi_3,
        _PHI_STOPS,
    ),
    Family(
        "phi-3-long",
        "Phi-3 128k",
        "frequencies that change with the longest row of a batch",
        write_phi_3_long,
        _PHI_STOPS,
    ),
    Family(
        "gpt-2",
        "GPT-2",
        "no template; `n_positions`; one control token",
        write_gpt_2,
        _GPT_STOPS,
        context_tokens=GPT_2_CONTEXT,
        has_template=False,
    ),
    Family(
        "opt",
        "OPT",
        "no template; `</s>` before every text; positions from two",
        write_opt,
        ("</s>",),
        has_template=False,
    ),
    Family(
        "bloom",
        "Bloom",
        "no template; no positions, and so no limit of its own",
        write_bloom,
        ("</s>",),
        context_tokens=None,
        has_template=False,
    ),
    Family(
        "lfm-2",
        "LFM2",
        "short convolutions beside attention; ChatML behind a beginning",
        write_lfm_2,
        ("<|im_end|>",),
    ),
    Family(
        "phi-2",
        "Phi-1.5, Phi-2",
        "no template; attention and feed-forward side by side",
        write_phi_2,
        _GPT_STOPS,
        has_template=False,
    ),
    Family(
        "granite",
        "Granite 3",
        "no template; scaled embeddings and logits",
        write_granite,
        _GPT_STOPS,
        has_template=False,
    ),
    Family(
        "starcoder-2",
        "StarCoder2",
        "no template; a sliding window",
        write_starcoder_2,
        _GPT_STOPS,
        has_template=False,
    ),
    Family(
        "mamba",
        "Mamba",
        "no template; a state space",
        write_mamba,
        _GPT_STOPS,
        context_tokens=None,
        lora_modules=_STATE_SPACE_MODULES,
        has_template=False,
    ),
    Family(
        "falcon-mamba",
        "Falcon Mamba",
        "no template; a state space with normalised steps",
        write_falcon_mamba,
        _GPT_STOPS,
        context_tokens=None,
        lora_modules=_STATE_SPACE_MODULES,
        has_template=False,
    ),
)
