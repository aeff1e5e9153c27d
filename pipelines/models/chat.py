"""How a conversation becomes tokens: the one encoder that training, scoring and serving share.

    prompt    the conversation, up to where the answer begins
    answer    what the same conversation goes on with, up to the token that ends the turn

Both come out of one rendering. An answer that is encoded by itself can begin with other tokens.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import UnusableBaseModel, UnusableRow, first_line
from pipelines.models.end_tokens import EndTokens, find_end_tokens
from pipelines.models.incremental_text import NOT_YET, IncrementalText
from pipelines.models.template import (
    RenderingError,
    Turn,
    find_turn,
    render,
    render_ids,
)
from pipelines.values.dataset import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Example = tuple[list[int], list[int]]
Encode = Callable[[str], list[int]]
# Texts to put in front of another one while it is encoded: one of them joins no token with it.
_ANCHORS = ("a", "\n", ".", "0", " ")


@dataclass(frozen=True)
class ChatEncoder:
    """Tokenizer and template.

    What a user types is text: `<|im_start|>` in a message never becomes a control token.
    """

    tokenizer: "PreTrainedTokenizerBase"
    template: str | None
    turn: Turn
    ends: EndTokens

    @classmethod
    def load(cls, folder: Path, template: str | None) -> "ChatEncoder":
        """Read the tokenizer in `folder`; `UnusableBaseModel` where tokenizer or template fail.

        `template` None is completion mode: the prompt, a line end, the completion.
        """
        tokenizer = load_tokenizer(folder)
        # In completion mode nothing is written around an answer.
        turn = Turn("", "") if template is None else find_turn(tokenizer, template)
        ends = find_end_tokens(tokenizer, folder, turn.after)
        return cls(tokenizer, template, turn, ends)

    @property
    def end_id(self) -> int:
        """The token that ends an answer in training."""
        return self.ends.turn

    @property
    def end_ids(self) -> list[int]:
        """Tokens at which generation stops."""
        return sorted(self.ends.all)

    @property
    def pad_id(self) -> int:
        """Token that fills a batch; masked everywhere, so that its identity does not matter."""
        pad_id = self.tokenizer.pad_token_id
        if pad_id is None:
            return self.end_id
        return int(pad_id)

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """Encode messages up to where the answer begins.

        `UnusableRow` where the template refuses the conversation, or leaves out what its system
        or its user says.
        """
        if self.template is None:
            return self._encode_plain(_join(messages))
        conversation = _list_turns(messages)
        prompt = self._render(conversation, add_generation_prompt=True)
        _check_is_whole(messages, prompt)
        return self._render_ids(conversation, add_generation_prompt=True)

    def encode_example(self, messages: Sequence[Message], answer: str) -> Example:
        """Encode a prompt, and the answer that it goes on with, end-of-turn token included.

        The prompt's tokens are those of `prompt_ids`. `UnusableRow` where the template refuses
        or rewrites the example, or where the answer holds a token that ends a turn.
        """
        prompt_ids = self.prompt_ids(messages)
        if self.template is None:
            prompt = _join(messages)
            whole_ids = self._encode_plain(prompt + answer)
            rest = _Rest(prompt_ids, whole_ids, answer)
        else:
            rest = self._render_rest(messages, answer, prompt_ids)
        answer_ids = self._cut(rest)
        return prompt_ids, self._end(answer_ids, answer)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of an answer, without control tokens, as the endpoint would give it."""
        text = self.decode_together(ids)
        if NOT_YET not in text:
            return text
        # A limit cut a character, or the model wrote bytes that are none.
        stream = IncrementalText(self.decode_together)
        pieces = [stream.push(token) for token in ids]
        return "".join([*pieces, stream.flush()])

    def decode_together(self, ids: Sequence[int]) -> str:
        """Return what the tokenizer makes of the tokens at once, without control tokens."""
        text = self.tokenizer.decode(
            list(ids),
            skip_special_tokens=True,
        )
        return str(text)

    def show(self, ids: Sequence[int]) -> str:
        """Return the text of tokens with its control tokens, for people."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=False))

    def _render_rest(
        self, messages: Sequence[Message], answer: str, prompt_ids: list[int]
    ) -> "_Rest":
        conversation = _list_turns(messages)
        prompt = self._render(conversation, add_generation_prompt=True)
        conversation.append({"role": "assistant", "content": answer})
        # Without an end token the template's own words after an answer are not learned.
        options = {"continue_final_message": True} if not self.ends.is_written else {}
        whole = self._render(conversation, **options)
        rest = whole.removeprefix(prompt)
        if not whole.startswith(prompt) or answer.strip() not in rest:
            hint = "Change the row or the template."
            if "</think>" in answer:
                hint = "Take the thought out of the row: only answers are learned."
            raise UnusableRow(
                f"The chat template rewrites the answer {answer[:40]!r}, "
                f"so that it does not follow its prompt. {hint}"
            )
        return _Rest(prompt_ids, self._render_ids(conversation, **options), rest)

    def _cut(self, rest: "_Rest") -> list[int]:
        """Return the tokens that follow the prompt's.

        Where text on both sides makes one token, those of the rest by itself: a model that is
        asked the prompt has to write these.
        """
        length = len(rest.prompt_ids)
        if rest.whole_ids[:length] == rest.prompt_ids:
            return rest.whole_ids[length:]
        encode = self._encode_text if self.template is None else self._encode_markup
        return _encode_after_anchor(encode, rest.text)

    def _end(self, ids: list[int], answer: str) -> list[int]:
        """Return the tokens up to the first one that ends the turn, or with one appended."""
        end = self.ends.turn
        if self.ends.is_written:
            kept = ids[: ids.index(end)] if end in ids else ids
            # One end is the template's. More are the answer's.
            has_own_end = ids.count(end) > self.ends.times_written
        else:
            kept, has_own_end = ids, end in ids
        if has_own_end or self.ends.all.intersection(kept):
            raise UnusableRow(
                f"The answer {answer[:40]!r} holds a token that ends a turn, "
                "so that no model could write it to its end. Take it out of the row."
            )
        return [*kept, end]

    def _render(self, conversation: list[dict[str, str]], **options: bool) -> str:
        template = self.template or ""
        try:
            return render(self.tokenizer, template, conversation, **options)
        except RenderingError as error:
            raise _describe_refusal(conversation, error) from error

    def _render_ids(
        self, conversation: list[dict[str, str]], **options: bool
    ) -> list[int]:
        template = self.template or ""
        try:
            return render_ids(self.tokenizer, template, conversation, **options)
        except RenderingError as error:
            raise _describe_refusal(conversation, error) from error

    def _encode_plain(self, text: str) -> list[int]:
        """Encode as the tokenizer does by itself, without an end that it may append."""
        encoding = self.tokenizer(text, split_special_tokens=True)
        ids = list(encoding["input_ids"])
        return ids[: len(ids) - self.ends.appended]

    def _encode_text(self, text: str) -> list[int]:
        """Encode what a person wrote: a control token in it is split into plain tokens."""
        encoding = self.tokenizer(
            text, add_special_tokens=False, split_special_tokens=True
        )
        return list(encoding["input_ids"])

    def _encode_markup(self, text: str) -> list[int]:
        """Encode what the template wrote: its control tokens count as such."""
        encoding = self.tokenizer(
            text, add_special_tokens=False, split_special_tokens=False
        )
        return list(encoding["input_ids"])


@dataclass(frozen=True)
class _Rest:
    """A prompt's tokens, those of prompt and answer together, and the text after the prompt."""

    prompt_ids: list[int]
    whole_ids: list[int]
    text: str


def load_tokenizer(folder: Path) -> "PreTrainedTokenizerBase":
    """Load the tokenizer in `folder`; `UnusableBaseModel` where it does not load."""
    from transformers import AutoTokenizer

    # From this folder alone: neither the network nor code in it is used.
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    # tokenizers has no error class of its own, and damaged files end in any error.
    except Exception as error:
        raise UnusableBaseModel(
            f"{folder} holds no tokenizer that loads ({first_line(error)}). "
            "Put tokenizer.json beside config.json."
        ) from error
    return tokenizer


def _encode_after_anchor(encode: Encode, text: str) -> list[int]:
    """Encode a text as it stands behind other text.

    By itself it could begin with a mark of the tokenizer's that the whole does not have there.
    """
    for anchor in _ANCHORS:
        head = encode(anchor)
        ids = encode(anchor + text)
        if ids[: len(head)] == head:
            return ids[len(head) :]
    raise UnusableRow(
        f"The answer {text[:40]!r} makes one token with whatever stands before it. "
        "Begin it with another character."
    )


def _join(messages: Sequence[Message]) -> str:
    lines = [f"{message.content}\n" for message in messages]
    return "".join(lines)


def _list_turns(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [
        {
            "role": message.role,
            "content": message.content,
        }
        for message in messages
    ]


def _check_is_whole(messages: Sequence[Message], prompt: str) -> None:
    """Raise `UnusableRow` where a template leaves out what was said to the assistant.

    Its own earlier answers may be shortened: templates take thoughts out of them.
    """
    for message in messages:
        if message.role == "assistant":
            continue
        # Templates may strip white space.
        content = message.content.strip()
        if content not in prompt:
            beginning = repr(content[:40])
            raise UnusableRow(
                f"The chat template leaves out or rewrites a {message.role} turn "
                f"({beginning}). Change the row or the template."
            )


def _describe_refusal(
    conversation: list[dict[str, str]], error: RenderingError
) -> UnusableRow:
    roles = ", ".join(turn["role"] for turn in conversation)
    return UnusableRow(
        f"The chat template refuses a conversation of {roles} ({error}). "
        "Correct the row or the template."
    )
