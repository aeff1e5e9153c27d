"""Bases that load and answer, and that libraries for training or scoring take for other ones."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import transformers
from transformers import LlamaConfig

from core.errors import ParameterError
from pipelines.models.language_model import generate, measure_completion_losses
from pipelines.values.params import Params
from tests.support.families.bench import Bench, set_up
from tests.support.families.family import (
    ATTENTION_MODULES,
    CONTEXT_TOKENS,
    SMALL,
    Family,
    Layout,
)
from tests.support.families.templates import CHATML
from tests.support.families.texts import user
from tests.support.families.tokenizers import byte_level
from tests.support.workshop import ROWS, Workshop, params

END = "<|endoftext|>"
ROUTED = {
    "PhimoeConfig": {
        **SMALL,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "sliding_window": None,
    },
    "Llama4TextConfig": {
        **SMALL,
        "head_dim": 16,
        "num_local_experts": 2,
        "attention_chunk_size": 16,
        "intermediate_size_mlp": 64,
    },
}
"""Families whose router is a linear layer that gives its choice, too."""
STATES = {
    **SMALL,
    "ssm_state_size": 8,
    "mamba_num_heads": 8,
    "mamba_head_dim": 8,
    "head_dim": 8,
    "chunk_size": 16,
    "n_groups": 1,
    "n_routed_experts": 2,
    "num_experts_per_tok": 1,
    "num_hidden_layers": 4,
}
DECODER = {
    "d_model": 32,
    "decoder_layers": 2,
    "decoder_attention_heads": 4,
    "decoder_ffn_dim": 64,
    "max_position_embeddings": CONTEXT_TOKENS,
    "init_std": 0.2,
    "is_decoder": True,
    "is_encoder_decoder": False,
}


def without_template(config: str, sizes: dict[str, Any], folder: Path) -> None:
    """A base of the class that belongs to a configuration, with a plain tokenizer."""
    tokenizer = byte_level((END,), bos_token=END, eos_token=END)
    end = tokenizer.number(END)
    named = {"bos_token_id": end, "eos_token_id": end, "pad_token_id": 0}
    prefix = config.removesuffix("Config").removesuffix("Text")
    suffix = "LMHeadModel" if prefix == "Bert" else "ForCausalLM"
    Layout(
        tokenizer,
        f"{prefix}{suffix}",
        getattr(transformers, config)(vocab_size=tokenizer.size + 7, **sizes, **named),
        generation=named,
        stops=(END,),
    ).write(folder)


def without_eos(template: str, lists_end: bool, folder: Path) -> None:
    """A base whose tokenizer names no end token and none that fills batches."""
    controls = ("<|im_start|>", "<|im_end|>", END)
    tokenizer = byte_level(controls)
    end = tokenizer.number(END)
    config = LlamaConfig(vocab_size=tokenizer.size, **SMALL)
    nothing = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    config.update(nothing)
    Layout(
        tokenizer,
        "LlamaForCausalLM",
        config,
        generation={"eos_token_id": end} if lists_end else None,
        template=template,
        stops=(END,),
    ).write(folder)


def base_of(write: Callable[[Path], None], root: Path, **kind: Any) -> Bench:
    family = Family(
        name="base",
        title="",
        layout="",
        write=write,
        stops=(END,),
        **kind,
    )
    return set_up(family, root)


def workshop_of(bench: Bench, root: Path) -> Workshop:
    return Workshop(bench.base, bench.folder, root / "work", bench.template)


def with_modules(asked: Params, modules: tuple[str, ...]) -> Params:
    lora = asked.lora.model_copy(update={"target_modules": modules})
    return asked.model_copy(update={"lora": lora})


@pytest.mark.parametrize("config", ROUTED)
def test_routers_among_all_linear_are_named_and_attention_alone_trains(
    config: str, tmp_path: Path
) -> None:
    write = partial(without_template, config, ROUTED[config])
    bench = base_of(write, tmp_path, has_template=False)
    workshop = workshop_of(bench, tmp_path)
    with pytest.raises(
        ParameterError,
        match=r"does not compute with LoRA .*, with router among them, \(.*target_modules=\[q_proj",
    ):
        workshop.run(params(), name="all")
    assert not (tmp_path / "work/all/out/progress.jsonl").exists()
    asked = with_modules(params(max_steps=2), ATTENTION_MODULES)
    assert workshop.run(asked, name="attention").moved > 0


def test_layers_that_peft_refuses_are_named_with_a_way_out(tmp_path: Path) -> None:
    write = partial(without_template, "NemotronHConfig", STATES)
    bench = base_of(write, tmp_path, has_template=False)
    with pytest.raises(
        ParameterError,
        match=r"^Training cannot begin .*out_proj.*name the attention's modules[^\n]*$",
    ):
        workshop_of(bench, tmp_path).run(params())


@pytest.mark.parametrize(
    ("template", "lists_end"),
    [
        (CHATML, False),
        (CHATML.replace("<|im_end|>", "\n"), True),
    ],
    ids=["the template's end", "the end of generation_config.json"],
)
def test_a_base_without_eos_and_pad_tokens_trains_and_answers(
    template: str, lists_end: bool, tmp_path: Path
) -> None:
    bench = base_of(partial(without_eos, template, lists_end), tmp_path)
    tokenizer = bench.encoder.tokenizer
    assert tokenizer.eos_token is None
    assert tokenizer.pad_token is None
    adapter = workshop_of(bench, tmp_path).run(params())
    assert adapter.moved > 0
    trained = bench.with_adapter(Path(adapter.folder))
    prompt = trained.encoder.prompt_ids((user("say 3"),))
    answers = generate(trained.language, [prompt], max_new_tokens=4, batch_size=1)
    assert trained.oracle.agrees(prompt, answers[0].ids, 4)


def test_losses_are_right_where_a_model_gives_more_logits_than_asked_for(
    tmp_path: Path,
) -> None:
    write = partial(without_template, "TrOCRConfig", DECODER)
    bench = base_of(write, tmp_path, has_template=False)
    rows = [
        bench.encoder.encode_example((user(text),), "the red one, I think")
        for text in ("Which fox?", "Name three colours and a month, please.")
    ]
    losses = measure_completion_losses(bench.language, rows, batch_size=1)
    expected = [bench.oracle.loss(prompt, completion) for prompt, completion in rows]
    assert losses == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("config", "sizes"),
    [
        ("BertConfig", {**SMALL, "is_decoder": True}),
        ("OlmoeConfig", {**SMALL, "num_experts": 4, "num_experts_per_tok": 2}),
        ("GraniteMoeConfig", {**SMALL, "num_local_experts": 2}),
    ],
    ids=["a head of several layers", "experts", "experts under other names"],
)
def test_the_dev_loss_of_training_is_that_of_scoring(
    config: str, sizes: dict[str, Any], tmp_path: Path
) -> None:
    write = partial(without_template, config, sizes)
    bench = base_of(write, tmp_path, has_template=False)
    modules = ("query",) if config == "BertConfig" else ATTENTION_MODULES
    dev = ROWS[:4]
    workshop = workshop_of(bench, tmp_path)
    adapter = workshop.run(with_modules(params(max_steps=2), modules), dev=dev)
    rows = [bench.encoder.encode_example(row.messages, row.completion) for row in dev]
    tokens = sum(len(completion) for _, completion in rows)
    assert all(len(completion) == len(rows[0][1]) for _, completion in rows)
    nats = sum(bench.oracle.loss(prompt, completion) for prompt, completion in rows)
    assert adapter.dev_losses[0].loss == pytest.approx(nats / tokens, rel=1e-4)
