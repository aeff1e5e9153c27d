"""A second tiny base: other tokens, another chat template, other weights.

A family of its own, so that an adapter of one base answers nothing on the other.
"""

from pathlib import Path

CONTROL_TOKENS = ("<pad>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
MERGES = (("r", "e"), ("o", "g"), ("u", "n"), ("f", "x"), ("u", "p"), ("o", "l"))
"""Pairs that become one token: a text has fewer of them than it has bytes."""
END_TOKEN_SCALE = 0.6


def make_other_base(folder: Path) -> Path:
    """Write config, weights, tokenizer and chat template into `folder`, and give the folder."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    vocabulary = _vocabulary()
    end = vocabulary["<|end|>"]
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        eos_token_id=end,
        pad_token_id=vocabulary["<pad>"],
        tie_word_embeddings=True,
        initializer_range=0.1,
    )
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = LlamaForCausalLM(config)
    # As in the first tiny base: noise ends no answer, and training can.
    with torch.no_grad():
        model.get_parameter("model.embed_tokens.weight")[end] *= END_TOKEN_SCALE
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    _save_tokenizer(folder, vocabulary)
    return folder


def _vocabulary() -> dict[str, int]:
    from tokenizers.pre_tokenizers import ByteLevel

    merged = ("".join(pair) for pair in MERGES)
    tokens = (*CONTROL_TOKENS, *sorted(ByteLevel.alphabet()), *merged)
    return {token: number for number, token in enumerate(tokens)}


def _save_tokenizer(folder: Path, vocabulary: dict[str, int]) -> None:
    from tokenizers import AddedToken, Tokenizer
    from tokenizers.decoders import ByteLevel as ByteLevelDecoder
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=list(MERGES)))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevelDecoder()
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in CONTROL_TOKENS]
    )
    wrapped = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # transformers leaves it untyped
        tokenizer_object=tokenizer,
        eos_token="<|end|>",
        pad_token="<pad>",
        model_max_length=512,
    )
    wrapped.chat_template = CHAT_TEMPLATE
    wrapped.save_pretrained(folder)
