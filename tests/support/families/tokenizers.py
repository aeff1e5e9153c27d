"""Small tokenizers, trained on invented text, built as the published families build theirs."""

import string
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tests.support.families.texts import corpus

if TYPE_CHECKING:
    from tokenizers import Tokenizer

WORD_MARK = "\u2581"
"""What SentencePiece writes for a space."""
# Digits, words and marks apart, as most byte-level tokenizers of language models split.
_SPLIT = r" ?\p{L}+| ?\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_BYTE_TOKENS = 400
_PIECES = 260


@dataclass(frozen=True)
class Control:
    """An added token, as tokenizer.json describes it."""

    text: str
    is_special: bool = True
    strips_right: bool = False


@dataclass(frozen=True)
class TokenizerFiles:
    """What becomes tokenizer.json, and what becomes tokenizer_config.json."""

    core: "Tokenizer"
    settings: dict[str, Any]

    @property
    def size(self) -> int:
        """Number of tokens, added ones included."""
        return self.core.get_vocab_size()

    def number(self, token: str) -> int:
        """The id of a token that there is."""
        found = self.core.token_to_id(token)
        assert found is not None, token
        return found

    def numbers(self, *tokens: str) -> list[int]:
        """The ids of tokens that there are."""
        return [self.number(token) for token in tokens]

    def byte_numbers(self, values: Iterable[int]) -> list[int]:
        """The ids of single bytes that a tokenizer of pieces falls back to; none without."""
        found = [self.core.token_to_id(f"<0x{value:02X}>") for value in values]
        return [number for number in found if number is not None]

    def with_settings(self, **settings: Any) -> "TokenizerFiles":
        """The same tokens under other settings."""
        return replace(self, settings={**self.settings, **settings})

    def puts_before_text(self, *tokens: str) -> "TokenizerFiles":
        """Put `tokens` before every text that is encoded."""
        self._process([*tokens, "$A"], tokens)
        return self

    def puts_after_text(self, *tokens: str) -> "TokenizerFiles":
        """Put `tokens` after every text that is encoded."""
        self._process(["$A", *tokens], tokens)
        return self

    def _process(self, single: list[str], tokens: Sequence[str]) -> None:
        from tokenizers.processors import TemplateProcessing

        self.core.post_processor = TemplateProcessing(
            single=single,
            special_tokens=[(token, self.number(token)) for token in tokens],
        )


def byte_level(
    control: Sequence[str | Control], *, is_control_first: bool = False, **settings: Any
) -> TokenizerFiles:
    """A tokenizer of bytes with merges, as GPT-2, Llama 3, Qwen and Bloom have.

    The control tokens have the last ids, or the first ones.
    """
    from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE

    bytes_of_text = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    splitter = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(_SPLIT), behavior="isolated"), bytes_of_text]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces, merges = _train(_learner(splitter), alphabet, _BYTE_TOKENS)
    tokens = [_as_control(token) for token in control]
    texts = [token.text for token in tokens]
    in_order = [*texts, *pieces] if is_control_first else [*pieces, *texts]
    core = Tokenizer(BPE(vocab=_numbered(in_order), merges=merges))
    core.pre_tokenizer = splitter
    core.decoder = decoders.ByteLevel()
    return _with_control(core, tokens, settings)


def sentence_pieces(
    first: Sequence[str | Control],
    last: Sequence[str | Control] = (),
    *,
    shape: Callable[["Tokenizer"], None],
    letters: str = string.printable[:95],
    **settings: Any,
) -> TokenizerFiles:
    """A tokenizer of pieces that falls back to bytes, as Llama 2, Mistral and Gemma have.

    `first` have the first ids, `last` the last ones. `shape` sets where spaces go, `letters`
    are pieces whatever the invented text holds.
    """
    from tokenizers import Tokenizer, pre_tokenizers
    from tokenizers.models import BPE

    # Words with their marks are apart here, so that no merge crosses a space.
    marked = pre_tokenizers.Metaspace(replacement=WORD_MARK, prepend_scheme="always")
    pieces, merges = _train(
        _learner(marked), [WORD_MARK, *letters.replace(" ", "")], _PIECES
    )
    fallback = [f"<0x{byte:02X}>" for byte in range(256)]
    begin = [_as_control(token) for token in first]
    end = [_as_control(token) for token in last]
    texts = [token.text for token in begin]
    in_order = [*texts, *fallback, *pieces, *(token.text for token in end)]
    core = Tokenizer(
        BPE(
            vocab=_numbered(in_order),
            merges=merges,
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    shape(core)
    return _with_control(core, [*begin, *end], settings)


def prepends_word_mark(core: "Tokenizer") -> None:
    """A word mark before every stretch of text, also behind a control token: Llama 2 at first."""
    from tokenizers import normalizers

    core.normalizer = normalizers.Sequence(
        [normalizers.Prepend(WORD_MARK), normalizers.Replace(" ", WORD_MARK)]
    )
    core.decoder = _piece_decoder(strips=True)


def marks_first_word(core: "Tokenizer") -> None:
    """A word mark before the text, and none behind a control token."""
    from tokenizers import pre_tokenizers

    core.pre_tokenizer = pre_tokenizers.Metaspace(
        replacement=WORD_MARK, prepend_scheme="first", split=False
    )
    core.decoder = _piece_decoder(strips=True)


def marks_spaces_only(core: "Tokenizer") -> None:
    """Spaces become word marks, and nothing is put before a text: Gemma."""
    from tokenizers import normalizers, pre_tokenizers

    core.normalizer = normalizers.Replace(" ", WORD_MARK)
    core.pre_tokenizer = pre_tokenizers.Split(" ", behavior="merged_with_previous")
    core.decoder = _piece_decoder(strips=False)


def _piece_decoder(*, strips: bool) -> Any:
    from tokenizers import decoders

    steps = [
        decoders.Replace(WORD_MARK, " "),
        decoders.ByteFallback(),
        decoders.Fuse(),
    ]
    if strips:
        steps.append(decoders.Strip(" ", 1, 0))
    return decoders.Sequence(steps)


def _train(
    learner: "Tokenizer", alphabet: Sequence[str], size: int
) -> tuple[list[str], list[tuple[str, str]]]:
    """Learn pieces by falling frequency, and the merges that make them."""
    import json

    from tokenizers.trainers import BpeTrainer

    trainer = BpeTrainer(
        vocab_size=size,
        initial_alphabet=list(alphabet),
        show_progress=False,
    )
    learner.train_from_iterator(corpus(), trainer)
    model = json.loads(learner.to_str())["model"]
    numbers: dict[str, int] = model["vocab"]
    pieces = sorted(numbers, key=lambda piece: numbers[piece])
    return pieces, [(left, right) for left, right in model["merges"]]


def _learner(splitter: Any) -> "Tokenizer":
    from tokenizers import Tokenizer
    from tokenizers.models import BPE

    learner = Tokenizer(BPE())
    learner.pre_tokenizer = splitter
    return learner


def _numbered(tokens: Sequence[str]) -> dict[str, int]:
    return {token: number for number, token in enumerate(dict.fromkeys(tokens))}


def _as_control(token: str | Control) -> Control:
    return Control(token) if isinstance(token, str) else token


def _with_control(
    core: "Tokenizer", control: Sequence[Control], settings: dict[str, Any]
) -> TokenizerFiles:
    from tokenizers import AddedToken

    for token in control:
        added = AddedToken(
            token.text,
            special=token.is_special,
            normalized=False,
            rstrip=token.strips_right,
        )
        add = core.add_special_tokens if token.is_special else core.add_tokens
        add([added])
    return TokenizerFiles(core, settings)
