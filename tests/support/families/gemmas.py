"""Gemma: a beginning that the tokenizer and the template both write, and sliding windows."""

import string
from pathlib import Path
from typing import Any

from tests.support.families import templates
from tests.support.families.family import SMALL, Family, Layout
from tests.support.families.tokenizers import (
    TokenizerFiles,
    marks_spaces_only,
    sentence_pieces,
)

_TURNS = ("<start_of_turn>", "<end_of_turn>")
_STOPS = ("<end_of_turn>", "<eos>")
WINDOW = 16


def gemma_tokenizer(*more: str) -> TokenizerFiles:
    """`<bos>` before every text; nothing before a word."""
    return sentence_pieces(
        ("<pad>", "<eos>", "<bos>", "<unk>", *_TURNS, *more),
        shape=marks_spaces_only,
        letters=string.printable[:95] + "\n",
        tokenizer_class="GemmaTokenizer",
        pad_token="<pad>",
        eos_token="<eos>",
        bos_token="<bos>",
        unk_token="<unk>",
        add_bos_token=True,
        add_eos_token=False,
    ).puts_before_text("<bos>")


def write_gemma_1(folder: Path) -> None:
    """The end of a turn is a special token that no settings name."""
    from transformers import GemmaConfig

    tokenizer = gemma_tokenizer()
    config = GemmaConfig(**_sizes(tokenizer), head_dim=16)
    only_end = {"bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0}
    _write(
        folder, tokenizer, "GemmaForCausalLM", config, only_end, templates.MODEL_TURNS
    )


def write_gemma_2(folder: Path) -> None:
    """Sliding and full attention in turn, and capped logits."""
    from transformers import Gemma2Config

    tokenizer = gemma_tokenizer()
    config = Gemma2Config(
        **_sizes(tokenizer),
        head_dim=16,
        query_pre_attn_scalar=16,
        sliding_window=WINDOW,
        attn_logit_softcapping=50.0,
        final_logit_softcapping=30.0,
    )
    # Published with a kind of cache that today's software chooses by itself.
    generation = {**_ends(tokenizer), "cache_implementation": "hybrid"}
    _write(
        folder,
        tokenizer,
        "Gemma2ForCausalLM",
        config,
        generation,
        templates.MODEL_TURNS,
    )


def write_gemma_3(folder: Path) -> None:
    """The text model: two layers of sliding attention for one of full attention."""
    from transformers import Gemma3TextConfig

    tokenizer = gemma_tokenizer()
    config = Gemma3TextConfig(**_text(tokenizer))
    _write_3(folder, tokenizer, "Gemma3ForCausalLM", config)


def write_gemma_3_with_pictures(folder: Path) -> None:
    """As published from 4B on: the text model inside one that takes pictures."""
    from transformers import Gemma3Config

    pictures = ("<start_of_image>", "<end_of_image>", "<image_soft_token>")
    tokenizer = gemma_tokenizer(*pictures)
    begin, end, image = tokenizer.numbers(*pictures)
    vision = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
    }
    config = Gemma3Config(
        text_config=_text(tokenizer),
        vision_config=vision,
        boi_token_index=begin,
        eoi_token_index=end,
        image_token_index=image,
        mm_tokens_per_image=4,
    )
    _write_3(folder, tokenizer, "Gemma3ForConditionalGeneration", config)


def _text(tokenizer: TokenizerFiles) -> dict[str, Any]:
    layers = ["sliding_attention", "sliding_attention", "full_attention"]
    return {
        **_sizes(tokenizer),
        "num_hidden_layers": len(layers),
        "layer_types": layers,
        "head_dim": 16,
        "query_pre_attn_scalar": 16,
        "sliding_window": WINDOW,
    }


def _write_3(
    folder: Path, tokenizer: TokenizerFiles, model_class: str, config: Any
) -> None:
    generation = {
        **_ends(tokenizer),
        "cache_implementation": "hybrid",
        "do_sample": True,
        "top_k": 64,
        "top_p": 0.95,
    }
    template = templates.MODEL_TURNS_WITH_SYSTEM
    _write(folder, tokenizer, model_class, config, generation, template)


def _sizes(tokenizer: TokenizerFiles) -> dict[str, Any]:
    return {
        **SMALL,
        "vocab_size": tokenizer.size,
        "bos_token_id": 2,
        "eos_token_id": 1,
        "pad_token_id": 0,
    }


def _ends(tokenizer: TokenizerFiles) -> dict[str, Any]:
    ends = tokenizer.numbers("<eos>", "<end_of_turn>")
    return {"bos_token_id": 2, "eos_token_id": ends, "pad_token_id": 0}


def _write(
    folder: Path,
    tokenizer: TokenizerFiles,
    model_class: str,
    config: Any,
    generation: dict[str, Any],
    template: str,
) -> None:
    Layout(
        tokenizer,
        model_class,
        config,
        generation=generation,
        template=template,
        stops=("<end_of_turn>",),
    ).write(folder)


GEMMAS = (
    Family(
        "gemma-1",
        "Gemma 1",
        "`<bos>` from tokenizer and template; `<end_of_turn>`, which no settings list",
        write_gemma_1,
        _STOPS,
        has_system_turn=False,
    ),
    Family(
        "gemma-2",
        "Gemma 2",
        "sliding and full attention in turn; capped logits",
        write_gemma_2,
        _STOPS,
        has_system_turn=False,
    ),
    Family(
        "gemma-3",
        "Gemma 3",
        "more sliding than full attention; two ends; settings of a cache",
        write_gemma_3,
        _STOPS,
    ),
    Family(
        "gemma-3-pictures",
        "Gemma 3",
        "the text part of a model that takes pictures",
        write_gemma_3_with_pictures,
        _STOPS,
    ),
)
