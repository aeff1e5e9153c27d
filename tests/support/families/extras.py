"""Layouts that are no family's alone: templates, settings and kinds of models that go wrong."""

import json
from pathlib import Path
from typing import Any

from tests.support.families import templates
from tests.support.families.family import SMALL, Family, Layout
from tests.support.families.llamas import (
    NAMED,
    PIECES,
    chatml_tokenizer,
    llama_config,
    write_chatml,
)
from tests.support.families.tokenizers import (
    Control,
    byte_level,
    prepends_word_mark,
    sentence_pieces,
)

_END = ("<|im_end|>",)
HOSTILE_SETTINGS: dict[str, Any] = {
    "do_sample": True,
    "temperature": 0.6,
    "top_k": 5,
    "top_p": 0.5,
    "min_p": 0.2,
    "typical_p": 0.9,
    "repetition_penalty": 1.3,
    "no_repeat_ngram_size": 2,
    "min_new_tokens": 9,
    "max_length": 40,
    "num_beams": 3,
    "num_return_sequences": 2,
    "bad_words_ids": [[20], [21]],
    "suppress_tokens": [22, 23],
    "begin_suppress_tokens": [24],
    "forced_eos_token_id": 2,
    "exponential_decay_length_penalty": [2, 1.5],
    "sequence_bias": [[[25], 10.0]],
    "stop_strings": ["fox"],
    "use_cache": False,
    "cache_implementation": "static",
    "guidance_scale": 1.5,
    "prompt_lookup_num_tokens": 3,
}
"""Everything in generation_config.json that would make an answer other than greedy."""


def write_distilled(folder: Path) -> None:
    """R1's own beginning of every answer, which a finished conversation does not have."""
    tokenizer = byte_level(
        (
            "<|begin|>",
            "<|end|>",
            "<|User|>",
            "<|Assistant|>",
            Control("<think>", is_special=False),
            Control("</think>", is_special=False),
        ),
        bos_token="<|begin|>",
        eos_token="<|end|>",
        pad_token="<|end|>",
        tokenizer_class="LlamaTokenizerFast",
    ).puts_before_text("<|begin|>")
    begin, end = tokenizer.numbers("<|begin|>", "<|end|>")
    named = {"bos_token_id": begin, "eos_token_id": end}
    Layout(
        tokenizer,
        "LlamaForCausalLM",
        llama_config(tokenizer, **named),
        generation={**named, "do_sample": True, "temperature": 0.6},
        template=templates.ALWAYS_THINKS,
        stops=("<|end|>",),
    ).write(folder)


def write_without_generation_prompt(folder: Path) -> None:
    """Nothing says to the model that it is its turn."""
    write_chatml(folder, templates.WITHOUT_GENERATION_PROMPT)


def write_named_templates(folder: Path) -> None:
    """A list with one named default, and one for tools."""
    write_chatml(
        folder,
        [
            {"name": "default", "template": templates.CHATML_WITH_DEFAULT},
            {"name": "tool_use", "template": "{{ raise_exception('Not this one.') }}"},
        ],
    )


def write_named_templates_without_default(folder: Path) -> None:
    """A list of which none is the default."""
    write_chatml(folder, [{"name": "rag", "template": templates.CHATML}])


def write_crossing(folder: Path) -> None:
    """The space before an answer is one token with the answer's first word."""
    crossing = templates.CHATML.replace("assistant\\n' -}}", "assistant: ' -}}")
    crossing = crossing.replace("turn.role ~ '\\n'", "turn.role ~ ': '")
    write_chatml(folder, crossing)


def write_hostile(folder: Path) -> None:
    """Settings of generation that would change every answer."""
    write_chatml(folder, templates.CHATML, generation=HOSTILE_SETTINGS)


def write_text_only(folder: Path) -> None:
    """A template without any control token."""
    write_chatml(folder, templates.TEXT_ONLY)


def write_appending(folder: Path) -> None:
    """A tokenizer that ends every text that it encodes; no template."""
    tokenizer = sentence_pieces(
        PIECES, shape=prepends_word_mark, **NAMED
    ).puts_after_text("</s>")
    Layout(
        tokenizer,
        "LlamaForCausalLM",
        llama_config(tokenizer, bos_token_id=1, eos_token_id=2),
        generation={"bos_token_id": 1, "eos_token_id": 2},
        stops=("</s>",),
    ).write(folder)


def write_t5(folder: Path) -> None:
    """An encoder and a decoder."""
    from transformers import T5Config

    tokenizer = sentence_pieces(
        ("<pad>", "</s>", "<unk>"),
        shape=prepends_word_mark,
        unk_token="<unk>",
        eos_token="</s>",
        pad_token="<pad>",
    ).puts_after_text("</s>")
    sizes: dict[str, Any] = {
        "d_model": 32,
        "d_kv": 8,
        "d_ff": 64,
        "num_layers": 2,
        "num_heads": 4,
        "decoder_start_token_id": 0,
    }
    Layout(
        tokenizer,
        "T5ForConditionalGeneration",
        T5Config(vocab_size=tokenizer.size, **sizes),
        generation={"eos_token_id": 1, "pad_token_id": 0},
        stops=("</s>",),
    ).write(folder)


def write_bert(folder: Path) -> None:
    """An encoder alone: every token sees those behind it."""
    from transformers import BertConfig

    tokenizer = chatml_tokenizer()
    sizes = {key: SMALL[key] for key in SMALL if key != "num_key_value_heads"}
    Layout(
        tokenizer,
        "BertForMaskedLM",
        BertConfig(vocab_size=tokenizer.size, **sizes, pad_token_id=0),
        template=templates.CHATML,
        stops=_END,
    ).write(folder)


def write_endless(folder: Path) -> None:
    """No token of the tokenizer or of the settings ends anything."""
    write_chatml(folder, templates.TEXT_ONLY)
    for name in ("tokenizer_config.json", "generation_config.json", "config.json"):
        path = folder / name
        settings = json.loads(path.read_text(encoding="utf-8"))
        for key in ("eos_token", "eos_token_id"):
            settings.pop(key, None)
        settings["tokenizer_class"] = "PreTrainedTokenizerFast"
        path.write_text(json.dumps(settings), encoding="utf-8")


EXTRAS = (
    Family(
        "distilled",
        "R1 distillations",
        "every answer begins inside a thought, which earlier answers lose",
        write_distilled,
        ("<|end|>",),
        refusal="The chat template opens a thought in front of an answer",
    ),
    Family(
        "no-generation-prompt",
        "any",
        "a template that writes nothing before an answer",
        write_without_generation_prompt,
        _END,
        refusal="between a prompt and its answer, which no prompt ends with",
    ),
    Family(
        "crossing",
        "any",
        "a template whose last space melts into the answer's first word",
        write_crossing,
        _END,
        joins_tokens=True,
    ),
    Family(
        "named-templates",
        "Command R, Hermes",
        "templates by name, one of them `default`",
        write_named_templates,
        _END,
    ),
    Family(
        "named-templates-without-default",
        "any",
        "templates by name without a `default`",
        write_named_templates_without_default,
        _END,
        refusal="several chat templates (rag) and no default",
    ),
    Family(
        "hostile-settings",
        "any",
        "a `generation_config.json` that asks for sampling, beams and penalties",
        write_hostile,
        _END,
    ),
    Family(
        "text-only",
        "any",
        "a template without a control token: the end is appended",
        write_text_only,
        _END,
    ),
    Family(
        "appending",
        "any",
        "no template; a tokenizer that ends every text",
        write_appending,
        ("</s>",),
        has_template=False,
    ),
    Family(
        "t5",
        "T5",
        "an encoder and a decoder",
        write_t5,
        ("</s>",),
        context_tokens=None,
        has_template=False,
        refusal="which does not continue a text",
    ),
    Family(
        "bert",
        "BERT",
        "an encoder alone",
        write_bert,
        _END,
        refusal="which does not continue a text",
    ),
    Family(
        "endless",
        "any",
        "no token ends an answer",
        write_endless,
        _END,
        refusal="has no end-of-sequence token",
    ),
)
