"""Qwen: ChatML, thoughts, and linear attention."""

from pathlib import Path
from typing import Any

from tests.support.families import templates
from tests.support.families.family import ATTENTION_MODULES, SMALL, Family, Layout
from tests.support.families.tokenizers import Control, TokenizerFiles, byte_level

_THOUGHTS = (
    Control("<think>", is_special=False),
    Control("</think>", is_special=False),
)
LINEAR_ATTENTION = {
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_conv_kernel_dim": 4,
}
_MIXED_LAYERS = ["linear_attention", "full_attention", "linear_attention"]


def qwen_tokenizer(*more: str | Control) -> TokenizerFiles:
    """The control tokens behind the text's; no token begins a text."""
    return byte_level(
        ("<|endoftext|>", "<|im_start|>", "<|im_end|>", *more),
        tokenizer_class="Qwen2Tokenizer",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        bos_token=None,
        add_bos_token=False,
    )


def sampling(tokenizer: TokenizerFiles, **more: Any) -> dict[str, Any]:
    """The settings that Qwen's models bring: two ends, and sampling."""
    ends = tokenizer.numbers("<|im_end|>", "<|endoftext|>")
    return {
        "bos_token_id": ends[1],
        "eos_token_id": ends,
        "pad_token_id": ends[1],
        "do_sample": True,
        "temperature": 0.7,
        "top_p": 0.8,
        "top_k": 20,
        **more,
    }


def write_qwen_2_5(folder: Path) -> None:
    """A system turn of its own, and a penalty on what was said before."""
    from transformers import Qwen2Config

    tokenizer = qwen_tokenizer()
    end, begin = tokenizer.numbers("<|im_end|>", "<|endoftext|>")
    sizes = {**SMALL, "vocab_size": tokenizer.size + 5, "tie_word_embeddings": True}
    Layout(
        tokenizer,
        "Qwen2ForCausalLM",
        # What the config calls the end is another token than what the tokenizer calls so.
        Qwen2Config(**sizes, bos_token_id=begin, eos_token_id=end),
        generation=sampling(tokenizer, repetition_penalty=1.3),
        template=templates.CHATML_WITH_DEFAULT,
        stops=("<|im_end|>",),
    ).write(folder)


def write_qwen_3(folder: Path) -> None:
    """A template that leaves the thought to the model unless the caller switches it off."""
    from transformers import Qwen3Config

    tokenizer = qwen_tokenizer(*_THOUGHTS)
    end, begin = tokenizer.numbers("<|im_end|>", "<|endoftext|>")
    sizes = {**SMALL, "vocab_size": tokenizer.size + 5, "head_dim": 16}
    Layout(
        tokenizer,
        "Qwen3ForCausalLM",
        Qwen3Config(**sizes, bos_token_id=begin, eos_token_id=end),
        generation=sampling(tokenizer, temperature=0.6, top_p=0.95),
        template=templates.MAY_THINK,
        stops=("<|im_end|>",),
    ).write(folder)


def write_qwen_3_experts(folder: Path) -> None:
    """Qwen 3 with four experts, of which two answer for a token."""
    from transformers import Qwen3MoeConfig

    tokenizer = qwen_tokenizer(*_THOUGHTS)
    end, begin = tokenizer.numbers("<|im_end|>", "<|endoftext|>")
    experts = {
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "norm_topk_prob": True,
    }
    sizes = {**SMALL, "vocab_size": tokenizer.size + 5, "head_dim": 16, **experts}
    Layout(
        tokenizer,
        "Qwen3MoeForCausalLM",
        Qwen3MoeConfig(**sizes, bos_token_id=begin, eos_token_id=end),
        generation=sampling(tokenizer),
        template=templates.MAY_THINK,
        stops=("<|im_end|>",),
    ).write(folder)


def write_qwen_3_5(folder: Path) -> None:
    """Linear attention beside full attention, text alone."""
    from transformers import Qwen3_5TextConfig

    tokenizer = qwen_tokenizer(*_THOUGHTS)
    config = Qwen3_5TextConfig(**_mixed(tokenizer))
    _write_mixed(folder, tokenizer, "Qwen3_5ForCausalLM", config, seed=1)


def write_qwen_3_5_with_pictures(folder: Path) -> None:
    """As published: the text model inside one that takes pictures."""
    from transformers import Qwen3_5Config

    pictures = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
    tokenizer = qwen_tokenizer(*_THOUGHTS, *pictures)
    begin, end, image, video = tokenizer.numbers(*pictures)
    vision = {
        "depth": 1,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_heads": 2,
        "out_hidden_size": SMALL["hidden_size"],
        "num_position_embeddings": 16,
    }
    config = Qwen3_5Config(
        text_config=_mixed(tokenizer),
        vision_config=vision,
        image_token_id=image,
        video_token_id=video,
        vision_start_token_id=begin,
        vision_end_token_id=end,
    )
    _write_mixed(folder, tokenizer, "Qwen3_5ForConditionalGeneration", config)


def write_qwen_3_next(folder: Path) -> None:
    """Linear attention and experts together."""
    from transformers import Qwen3NextConfig

    tokenizer = qwen_tokenizer(*_THOUGHTS)
    experts = {
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 16,
    }
    config = Qwen3NextConfig(**{**_mixed(tokenizer), **experts})
    _write_mixed(folder, tokenizer, "Qwen3NextForCausalLM", config)


def _mixed(tokenizer: TokenizerFiles) -> dict[str, Any]:
    return {
        **SMALL,
        **LINEAR_ATTENTION,
        "num_hidden_layers": len(_MIXED_LAYERS),
        "layer_types": _MIXED_LAYERS,
        "head_dim": 16,
        "vocab_size": tokenizer.size + 5,
        "eos_token_id": tokenizer.number("<|endoftext|>"),
        "tie_word_embeddings": False,
    }


def _write_mixed(
    folder: Path,
    tokenizer: TokenizerFiles,
    model_class: str,
    config: Any,
    seed: int = 0,
) -> None:
    Layout(
        tokenizer,
        model_class,
        config,
        generation=sampling(tokenizer, top_p=0.95),
        template=templates.OPENS_THOUGHT_UNLESS_TOLD,
        has_template_file=True,
        stops=("<|im_end|>",),
        seed=seed,
    ).write(folder)


_STOPS = ("<|im_end|>", "<|endoftext|>")
_NO_THOUGHT = {"enable_thinking": False}

QWENS = (
    Family(
        "qwen-2.5",
        "Qwen 2.5",
        "ChatML with a system turn of its own; a repetition penalty; two ends",
        write_qwen_2_5,
        _STOPS,
    ),
    Family(
        "qwen-3",
        "Qwen 3",
        "thoughts that the caller can switch off; the last answer has an empty one",
        write_qwen_3,
        _STOPS,
        options=_NO_THOUGHT,
    ),
    Family(
        "qwen-3-experts",
        "Qwen 3 MoE",
        "the same with a mixture of experts",
        write_qwen_3_experts,
        _STOPS,
        options=_NO_THOUGHT,
        lora_modules=ATTENTION_MODULES,
    ),
    Family(
        "qwen-3.5",
        "Qwen 3.5",
        "linear and full attention; a thought is opened unless switched off",
        write_qwen_3_5,
        _STOPS,
        options=_NO_THOUGHT,
    ),
    Family(
        "qwen-3.5-pictures",
        "Qwen 3.5",
        "the text part of a model that takes pictures",
        write_qwen_3_5_with_pictures,
        _STOPS,
        options=_NO_THOUGHT,
    ),
    Family(
        "qwen-3-next",
        "Qwen 3 Next",
        "linear and full attention with a mixture of experts",
        write_qwen_3_next,
        _STOPS,
        options=_NO_THOUGHT,
        lora_modules=ATTENTION_MODULES,
    ),
)
