"""Tokens that end an answer: the template's, the tokenizer's, and those that the model lists."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import UnusableBaseModel

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class EndTokens:
    """The token that ends an answer in training, and all at which generation stops."""

    turn: int
    all: frozenset[int]
    times_written: int
    """How often the template writes `turn` after an answer; 0 where Assay appends it."""
    appended: int
    """How many tokens the tokenizer appends to a text by itself."""

    @property
    def is_written(self) -> bool:
        """Whether the template itself ends a turn with a token."""
        return self.times_written > 0


def find_end_tokens(
    tokenizer: "PreTrainedTokenizerBase", folder: Path, after_answer: str
) -> EndTokens:
    """Find the end tokens of a model in `folder`, whose template writes `after_answer`.

    `UnusableBaseModel` where there is none, or where a file lists what is no token.
    """
    # Some vocabularies have gaps: their number of tokens is no bound.
    highest = max(tokenizer.get_vocab().values(), default=-1)
    listed = _read_listed(folder, highest)
    named: list[int] = []
    end_of_sequence = tokenizer.eos_token_id
    if end_of_sequence is not None:
        named.append(int(end_of_sequence))
    ids = _encode(tokenizer, after_answer)
    control_ids = _list_control_ids(tokenizer)
    written = _find_first(ids, control_ids.union(named, listed))
    if written is not None:
        end = ids.index(written)
        _check_text_before(tokenizer, ids[:end])
    candidates = [*named, *listed]
    # What the template writes is what training teaches.
    if written is not None:
        candidates.insert(0, written)
    if not candidates:
        raise UnusableBaseModel(
            f"The tokenizer in {folder} has no end-of-sequence token. "
            "Set eos_token in tokenizer_config.json."
        )
    return EndTokens(
        turn=candidates[0],
        all=frozenset(candidates),
        times_written=0 if written is None else ids.count(written),
        appended=_count_appended(tokenizer),
    )


def _list_control_ids(tokenizer: "PreTrainedTokenizerBase") -> set[int]:
    """Ids of all added tokens but white space, which some tokenizers add for their texts."""
    added = tokenizer.added_tokens_decoder
    return {number for number, token in added.items() if token.content.strip()}


def _find_first(ids: list[int], wanted: set[int]) -> int | None:
    # Not only the first token: white space may come before the control token.
    for token in ids:
        if token in wanted:
            return token
    return None


def _check_text_before(tokenizer: "PreTrainedTokenizerBase", ids: list[int]) -> None:
    """Refuse words between an answer and its end: each answer would be given with them."""
    text = str(tokenizer.decode(ids))
    if text.strip():
        raise UnusableBaseModel(
            f"The chat template writes {text[:60]!r} between an answer and the token that ends "
            "it, so that no answer would be a reference. "
            "Correct it, or give another with --chat-template."
        )


def _encode(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    encoding = tokenizer(text, add_special_tokens=False)
    return list(encoding["input_ids"])


def _count_appended(tokenizer: "PreTrainedTokenizerBase") -> int:
    """Count what the tokenizer puts behind a text, such as an end-of-sequence token."""
    plain = _encode(tokenizer, "a")
    whole = list(tokenizer("a")["input_ids"])
    last = len(whole) - len(plain)
    # From the right: a mark before the text may equal the text's own first token.
    for start in range(last, -1, -1):
        if whole[start : start + len(plain)] == plain:
            return last - start
    return 0


def _read_listed(folder: Path, highest: int) -> list[int]:
    """Read which tokens the model's own files say that generation stops at, in their order.

    As transformers does: those of `generation_config.json`, or without that file of
    `config.json`. Ids beyond the vocabulary are left out, since no model writes them.
    """
    generation = folder / "generation_config.json"
    if generation.is_file():
        listed = _read_json(generation).get("eos_token_id")
        path = generation
    else:
        path = folder / "config.json"
        config = _read_json(path)
        text_part = config.get("text_config")
        inner = text_part if isinstance(text_part, dict) else {}
        listed = config.get("eos_token_id")
        # A null says nothing, as in transformers.
        if listed is None:
            listed = inner.get("eos_token_id")
    entries = listed if isinstance(listed, list) else [listed]
    ids = [entry for entry in entries if entry is not None]
    for token in ids:
        # `type` and not isinstance: True is no token.
        if type(token) is not int:
            raise UnusableBaseModel(
                f"{path} says that eos_token_id is {str(listed)[:40]}. "
                "Write a token's number, or a list of them."
            )
    return [token for token in ids if 0 <= token <= highest]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UnusableBaseModel(
            f"{path} cannot be read as JSON. Write it again."
        ) from error
    return document if isinstance(document, dict) else {}
