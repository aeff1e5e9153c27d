"""Llama, Mistral, SmolLM and their like."""

from pathlib import Path
from typing import Any

from tests.support.families import templates
from tests.support.families.family import ATTENTION_MODULES, SMALL, Family, Layout
from tests.support.families.tokenizers import (
    TokenizerFiles,
    byte_level,
    marks_first_word,
    prepends_word_mark,
    sentence_pieces,
)

PIECES = ("<unk>", "<s>", "</s>")
NAMED = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
_HEADER_TOKENS = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
)
_CHATML_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def llama_config(tokenizer: TokenizerFiles, **settings: Any) -> Any:
    """A Llama of two layers for the tokens of `tokenizer`."""
    from transformers import LlamaConfig

    return LlamaConfig(**{**SMALL, "vocab_size": tokenizer.size, **settings})


def write_llama_2(folder: Path) -> None:
    """As published: LlamaTokenizer, the template in the tokenizer's settings."""
    settings: dict[str, Any] = {
        **{name: _described(token) for name, token in NAMED.items()},
        "tokenizer_class": "LlamaTokenizer",
        "legacy": False,
        "add_bos_token": True,
        "add_eos_token": False,
    }
    tokenizer = sentence_pieces(
        PIECES, shape=prepends_word_mark, **settings
    ).puts_before_text("<s>")
    _write_instructed(folder, tokenizer)


def _described(token: str) -> dict[str, Any]:
    """A named token in full, as older settings have it."""
    flags = ("lstrip", "normalized", "rstrip", "single_word")
    return {
        "__type": "AddedToken",
        "content": token,
        **dict.fromkeys(flags, False),
    }


def write_llama_2_prepending(folder: Path) -> None:
    """The older tokenizer: a word mark before each stretch of text."""
    tokenizer = sentence_pieces(PIECES, shape=prepends_word_mark, **NAMED)
    _write_instructed(folder, tokenizer.puts_before_text("<s>"))


def write_llama_2_marking(folder: Path) -> None:
    """The newer tokenizer: a word mark before the first word only."""
    tokenizer = sentence_pieces(PIECES, shape=marks_first_word, **NAMED)
    _write_instructed(folder, tokenizer.puts_before_text("<s>"))


def _write_instructed(folder: Path, tokenizer: TokenizerFiles) -> None:
    config = llama_config(tokenizer, bos_token_id=1, eos_token_id=2, pad_token_id=None)
    sampling = {"do_sample": True, "temperature": 0.6, "top_p": 0.9}
    Layout(
        tokenizer,
        "LlamaForCausalLM",
        config,
        generation={"bos_token_id": 1, "eos_token_id": 2, **sampling},
        template=templates.INSTRUCTIONS,
        stops=("</s>",),
    ).write(folder)


def write_zephyr(folder: Path) -> None:
    """Roles as plain text between line ends that the template itself begins with."""
    tokenizer = sentence_pieces(
        PIECES, shape=prepends_word_mark, **NAMED, pad_token="</s>"
    ).puts_before_text("<s>")
    Layout(
        tokenizer,
        "LlamaForCausalLM",
        llama_config(tokenizer, bos_token_id=1, eos_token_id=2),
        generation={"bos_token_id": 1, "eos_token_id": 2, "max_length": 64},
        template=templates.NAMED_ROLES,
        stops=("</s>",),
    ).write(folder)


def write_llama_3(folder: Path) -> None:
    """The end of a turn is an added token that only generation_config.json lists."""
    _write_headed(folder, templates.HEADERS, rope_theta=500000.0)


def write_llama_3_1(folder: Path) -> None:
    """With today's date, and positions that are stretched."""
    stretched = {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }
    _write_headed(folder, templates.DATED_HEADERS, rope_parameters=stretched)


def _write_headed(folder: Path, template: str, **settings: Any) -> None:
    tokenizer = byte_level(
        _HEADER_TOKENS, bos_token="<|begin_of_text|>", eos_token="<|end_of_text|>"
    ).puts_before_text("<|begin_of_text|>")
    begin, end, end_of_turn = tokenizer.numbers(
        "<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"
    )
    Layout(
        tokenizer,
        "LlamaForCausalLM",
        llama_config(
            tokenizer, bos_token_id=begin, eos_token_id=[end, end_of_turn], **settings
        ),
        generation={
            "bos_token_id": begin,
            "eos_token_id": [end, end_of_turn],
            "do_sample": True,
            "temperature": 0.6,
            "top_p": 0.9,
        },
        template=template,
        stops=("<|eot_id|>", "<|end_of_text|>"),
    ).write(folder)


def write_mistral(folder: Path) -> None:
    """Attention over the last 24 tokens."""
    from transformers import MistralConfig

    tokenizer = sentence_pieces(
        PIECES, shape=prepends_word_mark, **NAMED, tokenizer_class="LlamaTokenizer"
    ).puts_before_text("<s>")
    sizes = {**SMALL, "vocab_size": tokenizer.size, "sliding_window": 24}
    Layout(
        tokenizer,
        "MistralForCausalLM",
        MistralConfig(**sizes, bos_token_id=1, eos_token_id=2),
        generation={"bos_token_id": 1, "eos_token_id": 2},
        template=templates.INSTRUCTIONS_WITHOUT_SYSTEM,
        stops=("</s>",),
    ).write(folder)


def write_mixtral(folder: Path) -> None:
    """Four experts, of which two answer for a token."""
    from transformers import MixtralConfig

    tokenizer = sentence_pieces(
        PIECES, shape=prepends_word_mark, **NAMED
    ).puts_before_text("<s>")
    experts = {"num_local_experts": 4, "num_experts_per_tok": 2}
    sizes = {**SMALL, "vocab_size": tokenizer.size, "sliding_window": None, **experts}
    Layout(
        tokenizer,
        "MixtralForCausalLM",
        MixtralConfig(**sizes, bos_token_id=1, eos_token_id=2),
        generation={"bos_token_id": 1, "eos_token_id": 2},
        template=templates.INSTRUCTIONS_WITHOUT_SYSTEM,
        stops=("</s>",),
    ).write(folder)


def write_smollm_2(folder: Path) -> None:
    """ChatML with a system turn of its own; the control tokens have the first ids."""
    write_chatml(folder, templates.CHATML_WITH_DEFAULT)


def write_smollm_3(folder: Path) -> None:
    """The day, written by the template alone; every second layer knows no positions."""
    from transformers import SmolLM3Config

    tokenizer = chatml_tokenizer()
    sizes = {**SMALL, "vocab_size": tokenizer.size, "no_rope_layers": [1, 0]}
    end = tokenizer.number("<|im_end|>")
    Layout(
        tokenizer,
        "SmolLM3ForCausalLM",
        SmolLM3Config(**sizes, bos_token_id=None, eos_token_id=end, pad_token_id=0),
        generation={"eos_token_id": end, "do_sample": True, "temperature": 0.6},
        template=templates.DATED_CHATML,
        has_template_file=True,
        stops=("<|im_end|>",),
    ).write(folder)


def chatml_tokenizer() -> TokenizerFiles:
    """Tokens of bytes, and ChatML's own with the first ids."""
    return byte_level(
        _CHATML_TOKENS,
        is_control_first=True,
        tokenizer_class="GPT2Tokenizer",
        unk_token="<|endoftext|>",
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
    )


def write_chatml(
    folder: Path,
    template: Any,
    *,
    generation: dict[str, Any] | None = None,
    tokenizer: TokenizerFiles | None = None,
    **settings: Any,
) -> None:
    """A Llama with ChatML's tokens under any template and any generation settings."""
    tokens = chatml_tokenizer() if tokenizer is None else tokenizer
    begin, end = tokens.numbers("<|im_start|>", "<|im_end|>")
    named = {"bos_token_id": begin, "eos_token_id": end, "pad_token_id": end}
    Layout(
        tokens,
        "LlamaForCausalLM",
        llama_config(tokens, **named, tie_word_embeddings=True, **settings),
        generation={**named, **(generation or {})},
        template=template,
        stops=("<|im_end|>",),
    ).write(folder)


LLAMAS = (
    Family(
        "llama-2",
        "Llama 2",
        "SentencePiece with byte fallback; `[INST]`, `<<SYS>>`, no generation prompt",
        write_llama_2,
        ("</s>",),
    ),
    Family(
        "llama-2-prepending",
        "Llama 2",
        "the older tokenizer: a word mark before each stretch of text",
        write_llama_2_prepending,
        ("</s>",),
    ),
    Family(
        "llama-2-marking",
        "Llama 2",
        "the newer tokenizer: a word mark before the first word only",
        write_llama_2_marking,
        ("</s>",),
    ),
    Family(
        "zephyr",
        "Zephyr, TinyLlama",
        "roles as plain text, `</s>` behind every turn",
        write_zephyr,
        ("</s>",),
    ),
    Family(
        "llama-3",
        "Llama 3",
        "byte-level; an end of turn that only `generation_config.json` lists",
        write_llama_3,
        ("<|eot_id|>", "<|end_of_text|>"),
    ),
    Family(
        "llama-3.1",
        "Llama 3.1, 3.2",
        "the day in the system header; stretched positions",
        write_llama_3_1,
        ("<|eot_id|>", "<|end_of_text|>"),
        is_dated=True,
    ),
    Family(
        "mistral",
        "Mistral 0.1",
        "a sliding window shorter than the prompts; no system turn",
        write_mistral,
        ("</s>",),
        has_system_turn=False,
    ),
    Family(
        "mixtral",
        "Mixtral",
        "a mixture of experts",
        write_mixtral,
        ("</s>",),
        lora_modules=ATTENTION_MODULES,
        has_system_turn=False,
    ),
    Family(
        "smollm-2",
        "SmolLM, SmolLM2",
        "ChatML with a system turn of its own; tied embeddings",
        write_smollm_2,
        ("<|im_end|>",),
    ),
    Family(
        "smollm-3",
        "SmolLM3",
        "ChatML with the day; layers without positions",
        write_smollm_3,
        ("<|im_end|>",),
        is_dated=True,
    ),
)
