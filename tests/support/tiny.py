"""A real base model made tiny.

Two Llama layers, a byte-level tokenizer and a ChatML template, written in a second.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from core.files import digest_of_files, folder_digests, write_text
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.dataset import Message
from pipelines.values.evidence import Adapter, DevLoss
from pipelines.values.params import BaseModelParams, LoraParams
from pipelines.values.serving_spec import ServingSpec
from pipelines.values.verdict import Comparison, Finalist, Finding
from registry.release.known_answers import KnownAnswer, write_known_answers
from registry.release.package_signature import package_digests

if TYPE_CHECKING:
    from transformers import LlamaConfig

CONTEXT_TOKENS = 512
MAX_TOKENS = 24
QUESTIONS = ("How do I list files?", "copy a file", "Who are you?", "stop the server")
END_TOKEN_SCALE = 0.6
"""Length of the end token's embedding beside the others'. Noise ends no answer, and training can.

Logits are products with the embeddings, so a shorter one is the largest only where it is learned.
"""
CONTROL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def make_tiny_base(folder: Path, head_size: int = 8) -> Path:
    """Write config, weights, tokenizer and chat template into `folder`, and give the folder.

    The bytes are the same each time. One token a byte, so any text encodes; about 30 thousand
    parameters of noise, so the answers make no sense before training.
    """
    import torch
    from transformers import LlamaForCausalLM

    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(_config(head_size))
    end = CONTROL_TOKENS.index("<|im_end|>")
    with torch.no_grad():
        model.get_parameter("model.embed_tokens.weight")[end] *= END_TOKEN_SCALE
    model.save_pretrained(folder)
    _save_tokenizer(folder)
    return folder


def tiny_manifest(folder: Path, home: Path) -> BaseModelManifest:
    """The manifest of `make_tiny_base(folder)`, as stage `base_model` makes it.

    `home` is where it may write.
    """
    from pipelines.stages.base_model import base_model

    params = BaseModelParams(
        source="folder",
        id="tiny",
        path=str(folder),
        digest=None,
        chat_template=None,
        completion_mode=False,
    )
    return base_model(params, home)[0]


def make_tiny_adapter(
    base_folder: Path, base: BaseModelManifest, folder: Path, seed: int = 1
) -> Adapter:
    """Write a LoRA adapter that changes answers, as peft saves it, and give its record."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    lora = LoraParams(r=4, alpha=8, dropout=0.0, target_modules="all-linear")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = get_peft_model(
            AutoModelForCausalLM.from_pretrained(str(base_folder)),
            LoraConfig(
                r=lora.r,
                lora_alpha=int(lora.alpha),
                target_modules="all-linear",
                task_type="CAUSAL_LM",
            ),
        )
        for name, weights in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weights, std=0.5)
    model.save_pretrained(str(folder))
    (folder / "README.md").unlink(missing_ok=True)
    return record_of(folder, base, lora)


def make_tiny_package(
    base_folder: Path, base: BaseModelManifest, folder: Path, seed: int = 1
) -> Finalist:
    """Write what a registered version holds at the least.

    Adapter, its record, its known answers, and the verdict that let it pass.
    """
    adapter = make_tiny_adapter(base_folder, base, folder / "adapter", seed)
    write_known_answers(
        folder / "known_answers.jsonl",
        scored_answers(base_folder, base, folder / "adapter"),
    )
    finalist = Finalist(
        findings=(
            Finding(
                rule="superior",
                outcome="passed",
                text="chrf 24.0 is over the base's 15.0 by more than 0.",
            ),
        ),
        comparisons=(
            Comparison(
                metric="chrf",
                against="base",
                difference=9.0,
                low=7.0,
                high=11.0,
                standard_error=1.0,
                clusters=40,
            ),
        ),
        policy_sha256="0" * 64,
        scorecard_digest="0" * 64,
        adapter=adapter,
        spec=ServingSpec.of_transformers(base, "float32", MAX_TOKENS).with_adapter(
            adapter.sha256
        ),
    )
    adapter.write(folder / "adapter.json")
    finalist.write(folder / "verdict.json")
    base.write(folder / "base_model.json")
    write_text(folder / "chat_template.jinja", CHAT_TEMPLATE)
    pack(folder)
    return finalist


def pack(folder: Path) -> None:
    """Write the digest of every file, as registering does before it signs."""
    (folder / "package.json").unlink(missing_ok=True)
    write_text(folder / "package.json", json.dumps(package_digests(folder)))


def record_of(folder: Path, base: BaseModelManifest, lora: LoraParams) -> Adapter:
    """The record of whatever lies in `folder` now, as `fine_tune` would have left it."""
    files = folder_digests(folder)
    return Adapter(
        folder=folder.as_posix(),
        files=files,
        sha256=digest_of_files(files),
        base_id=base.id,
        base_revision=base.revision,
        base_digest=base.digest,
        chat_template_sha256=base.chat_template_sha256,
        lora=lora,
        steps=10,
        train_loss=3.0,
        dev_losses=(DevLoss(step=0, loss=5.5), DevLoss(step=10, loss=3.1)),
        best_step=10,
        moved=1.0,
        resumed_from=(),
        precision="float32",
        device="cpu",
        real_tokens=1000,
        seconds=1.0,
    )


def scored_answers(
    base_folder: Path, base: BaseModelManifest, adapter_folder: Path
) -> tuple[KnownAnswer, ...]:
    """What scoring answers to a few questions, a batch at a time."""
    from pipelines.models.language_model import generate, load_language_model

    prompts = tuple((Message(role="user", content=text),) for text in QUESTIONS)
    language = load_language_model(
        base, base_folder, CHAT_TEMPLATE, "float32", adapter_folder
    )
    ids = [language.encoder.prompt_ids(messages) for messages in prompts]
    answers = generate(language, ids, max_new_tokens=MAX_TOKENS, batch_size=len(ids))
    return tuple(
        KnownAnswer(
            messages=messages,
            text=language.encoder.decode(answer.ids),
            max_tokens=MAX_TOKENS,
        )
        for messages, answer in zip(prompts, answers, strict=True)
    )


def _config(head_size: int) -> "LlamaConfig":
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=len(_vocabulary()),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=head_size,
        max_position_embeddings=CONTEXT_TOKENS,
        bos_token_id=CONTROL_TOKENS.index("<|im_start|>"),
        eos_token_id=CONTROL_TOKENS.index("<|im_end|>"),
        pad_token_id=CONTROL_TOKENS.index("<|endoftext|>"),
        tie_word_embeddings=True,
        initializer_range=0.1,
    )


def _vocabulary() -> dict[str, int]:
    from tokenizers.pre_tokenizers import ByteLevel

    return {
        token: number
        for number, token in enumerate((*CONTROL_TOKENS, *sorted(ByteLevel.alphabet())))
    }


def _save_tokenizer(folder: Path) -> None:
    from tokenizers import AddedToken, Tokenizer
    from tokenizers.decoders import ByteLevel as ByteLevelDecoder
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(BPE(vocab=_vocabulary(), merges=[]))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevelDecoder()
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in CONTROL_TOKENS]
    )
    wrapped = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # transformers leaves it untyped
        tokenizer_object=tokenizer,
        unk_token="<|endoftext|>",
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        model_max_length=CONTEXT_TOKENS,
    )
    wrapped.chat_template = CHAT_TEMPLATE
    wrapped.save_pretrained(folder)
