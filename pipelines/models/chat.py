"""How a conversation becomes tokens: the one encoder that training, scoring and serving share.

    prompt    the conversation, up to where the answer begins
    answer    what the same conversation goes on with, up to the token that ends the turn

Both come out of one rendering. An answer that is encoded by itself can begin with other tokens.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import UnusableBaseModel, UnusableRow, first_line
from pipelines.models.end_tokens import EndTokens, find_end_tokens
from pipelines.models.incremental_text import NOT_YET, IncrementalText
from pipelines.models.markup import (
    OPEN,
    PROMPT,
    WHOLE,
    Controls,
    Markup,
    Options,
    describe_refusal,
    find_controls,
    find_markup,
)
from pipelines.models.template import RenderingError, find_ending, render
from pipelines.values.dataset import Message
from pipelines.values.fixed_prompt import FixedPrompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Example = tuple[list[int], list[int]]
Encode = Callable[[str], list[int]]
FindMarkup = Callable[[tuple[str, ...], Options], Markup]
# Texts to put in front of another one while it is encoded: one of them joins no token with it.
_ANCHORS = ("a", "\n", ".", "0", " ")
# Orders of roles that are remembered: a client of the endpoint may send any.
_MOST_ORDERS = 512


@dataclass(frozen=True)
class ChatEncoder:
    """Tokenizer and template.

    What a user types is text: `<|im_start|>` in a message never becomes a control token.
    """

    tokenizer: "PreTrainedTokenizerBase"
    ends: EndTokens
    unknown_ids: frozenset[int]
    """What the tokenizer writes for text that it has no tokens for."""
    chat: "_Chat | None"
    """None: completion mode."""
    prompt: FixedPrompt | None = None
    """What stands before every conversation; None: nothing does."""

    @classmethod
    def load(cls, folder: Path, template: str | None) -> "ChatEncoder":
        """Read the tokenizer in `folder`; `UnusableBaseModel` where tokenizer or template fail.

        `template` None is completion mode: the prompt, a line end, the completion.
        """
        tokenizer = load_tokenizer(folder)
        # In completion mode nothing is written behind an answer.
        ending = "" if template is None else find_ending(tokenizer, template)
        ends = find_end_tokens(tokenizer, folder, ending)
        chat = None if template is None else _Chat.of(tokenizer, template)
        return cls(tokenizer, ends, _find_unknown_ids(tokenizer), chat)

    def with_prompt(self, prompt: FixedPrompt) -> "ChatEncoder":
        """The same encoder, for a prompt that is judged and served as an adapter is."""
        return replace(self, prompt=prompt)

    @property
    def bare(self) -> "ChatEncoder":
        """The same encoder without a prompt: the base's own."""
        return replace(self, prompt=None)

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

        `UnusableRow` where the template refuses the conversation, or leaves out what is said
        in it.
        """
        messages = self._behind_prompt(messages)
        if self.chat is None:
            return self._encode_plain(_join(messages))
        prompt = self.chat.render(messages, PROMPT)
        _check_is_whole(messages, prompt.text)
        return self.chat.encode_rendered(prompt)

    def encode_plain(self, text: str) -> list[int]:
        """Encode text that stands in no conversation: nothing in it becomes a control token."""
        if self.chat is None:
            return self._encode_plain(text)
        marked = self.chat.mark_controls(text)
        if marked is None:
            return self._encode_plain(text)
        # What the tokenizer itself puts before any text.
        return [*self._encode_plain(""), *self.chat.encode_guarded(marked)]

    @cached_property
    def control_ids(self) -> frozenset[int]:
        """The tokens that are no text: special ones, the template's own, those that end a turn."""
        named = self.tokenizer.all_special_ids
        added = self.tokenizer.added_tokens_decoder.items()
        special = {number for number, token in added if token.special}
        written = set() if self.chat is None else self.chat.control_ids
        return frozenset({*named, *special, *written, *self.ends.all})

    def encode_example(self, messages: Sequence[Message], answer: str) -> Example:
        """Encode a prompt, and the answer that it goes on with, end-of-turn token included.

        The prompt's tokens are those of `prompt_ids`. `UnusableRow` where the template refuses
        or rewrites the example, where the tokenizer cannot write the answer, or where the answer
        holds a token that ends a turn.
        """
        messages = self._behind_prompt(messages)
        if self.chat is None:
            prompt_ids, answer_ids = self._encode_completion(messages, answer)
        else:
            prompt_ids, answer_ids = self._encode_turn(self.chat, messages, answer)
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
        text = self.tokenizer.decode(
            list(ids),
            skip_special_tokens=False,
        )
        return str(text)

    def _behind_prompt(self, messages: Sequence[Message]) -> Sequence[Message]:
        # Here alone, where every conversation of scoring and of serving passes.
        return messages if self.prompt is None else self.prompt.before(messages)

    def _encode_completion(self, messages: Sequence[Message], answer: str) -> Example:
        prompt = _join(messages)
        prompt_ids = self._encode_plain(prompt)
        conversation = prompt + answer
        whole_ids = self._encode_plain(conversation)
        return prompt_ids, _cut(prompt_ids, whole_ids, self._encode_text, answer)

    def _encode_turn(
        self, chat: "_Chat", messages: Sequence[Message], answer: str
    ) -> Example:
        prompt = chat.render(messages, PROMPT)
        _check_is_whole(messages, prompt.text)
        turn = Message(role="assistant", content=answer)
        # Without an end token the template's own words after an answer are not learned.
        options = WHOLE if self.ends.is_written else OPEN
        whole = chat.render((*messages, turn), options)
        rest = whole.text.removeprefix(prompt.text)
        if not whole.text.startswith(prompt.text) or answer.strip() not in rest:
            raise _describe_rewriting(answer)
        prompt_ids = chat.encode_rendered(prompt)
        whole_ids = chat.encode_rendered(whole)
        if whole.guarded is None:
            return prompt_ids, _cut(prompt_ids, whole_ids, chat.encode, rest)
        guarded_rest = whole.guarded.removeprefix(prompt.guarded or prompt.text)
        encode = chat.encode_guarded
        return prompt_ids, _cut(prompt_ids, whole_ids, encode, guarded_rest)

    def _end(self, ids: list[int], answer: str) -> list[int]:
        """Return the tokens up to the first one that ends the turn, or with one appended."""
        end = self.ends.turn
        kept = ids
        if self.ends.is_written and end in ids:
            kept = ids[: ids.index(end)]
        # One end is the template's. More are the answer's.
        has_own_end = ids.count(end) > self.ends.times_written
        if has_own_end or self.ends.all.intersection(kept):
            raise UnusableRow(
                f"The answer {answer[:40]!r} holds a token that ends a turn, "
                "so that no model could write it to its end. Take it out of the row."
            )
        if self.unknown_ids.intersection(kept):
            raise UnusableRow(
                f"The tokenizer has no tokens for a part of the answer {answer[:40]!r}, "
                "so that no model could write it. Take the row out, or another base model."
            )
        return [*kept, end]

    def _encode_plain(self, text: str) -> list[int]:
        """Encode as the tokenizer does by itself, without an end that it may append."""
        encoding = self.tokenizer(text, split_special_tokens=True)
        ids = list(encoding["input_ids"])
        length = len(ids) - self.ends.appended
        return ids[:length]

    def _encode_text(self, text: str) -> list[int]:
        """Encode what a person wrote: a control token in it is split into plain tokens."""
        encoding = self.tokenizer(
            text, add_special_tokens=False, split_special_tokens=True
        )
        return list(encoding["input_ids"])


@dataclass(frozen=True)
class _Rendered:
    """A conversation as the template writes it, and with what its messages imitate marked."""

    text: str
    guarded: str | None
    """None where no message imitates a control token."""


@dataclass(frozen=True)
class _Chat:
    """A template on its tokenizer."""

    tokenizer: "PreTrainedTokenizerBase"
    template: str
    controls: Controls
    find_markup: FindMarkup

    @classmethod
    def of(cls, tokenizer: "PreTrainedTokenizerBase", template: str) -> "_Chat":
        controls = find_controls(tokenizer, template)
        # A file has few orders of roles, and each is rendered once.
        remember = lru_cache(maxsize=_MOST_ORDERS)
        return cls(
            tokenizer,
            template,
            controls,
            remember(partial(find_markup, tokenizer, template)),
        )

    def render(self, messages: Sequence[Message], options: Options) -> _Rendered:
        """Render messages; `UnusableRow` where the template refuses or leaves out one."""
        # First by words of our own: a text may stand elsewhere in a prompt by chance.
        roles = tuple(message.role for message in messages)
        markup = self.find_markup(roles, options)
        conversation = [message.model_dump() for message in messages]
        try:
            text = render(
                self.tokenizer,
                self.template,
                conversation,
                **dict(options),
            )
        except RenderingError as error:
            raise describe_refusal(roles, error) from error
        guarded = self._guard(text, markup, messages)
        return _Rendered(text, guarded)

    def encode_rendered(self, rendered: _Rendered) -> list[int]:
        """Encode a conversation."""
        if rendered.guarded is None:
            return self.encode(rendered.text)
        return self.encode_guarded(rendered.guarded)

    @property
    def control_ids(self) -> set[int]:
        """The tokens that a message may not become."""
        vocabulary = self.tokenizer.get_vocab()
        return {vocabulary[token] for token in self.controls.asked}

    def mark_controls(self, text: str) -> str | None:
        """Mark the control tokens in a text with transformers' own marks; None: it has none."""
        from transformers.utils.chat_template_utils import mark_control_tokens

        pattern = self.controls.pattern("user")
        if not pattern.search(text):
            return None
        return str(mark_control_tokens(text, pattern))

    def encode(self, text: str) -> list[int]:
        """Encode what the template wrote: its control tokens count as such."""
        encoding = self.tokenizer(
            text, add_special_tokens=False, split_special_tokens=False
        )
        return list(encoding["input_ids"])

    def encode_guarded(self, guarded: str) -> list[int]:
        """Encode as `encode` does, but for control tokens that are marked: they are text."""
        from transformers.utils.chat_template_utils import encode_marked_chat

        return list(encode_marked_chat(self.tokenizer, guarded))

    def _guard(
        self, text: str, markup: Markup, messages: Sequence[Message]
    ) -> str | None:
        """Mark the control tokens that messages hold, with transformers' own marks."""
        from transformers.utils.chat_template_utils import mark_control_tokens

        if not self.controls.are_in(messages):
            return None
        written = markup.split(text, messages)
        if written is None:
            raise UnusableRow(
                "A message holds a control token and the chat template rewrites it. "
                "Remove the token."
            )
        marked = [
            mark_control_tokens(form, self.controls.pattern(messages[number].role))
            for form, number in zip(written, markup.order, strict=True)
        ]
        return markup.join(marked)


def _cut(
    prompt_ids: list[int], whole_ids: list[int], encode: Encode, rest: str
) -> list[int]:
    """Return the tokens that follow the prompt's.

    Where text on both sides makes one token, those of the rest by itself: a model that is
    asked the prompt has to write these.
    """
    length = len(prompt_ids)
    if whole_ids[:length] == prompt_ids:
        return whole_ids[length:]
    return _encode_after_anchor(encode, rest)


def _describe_rewriting(answer: str) -> UnusableRow:
    hint = "Change the row or the template."
    if "</think>" in answer:
        hint = "Take the thought out of the row: only answers are learned."
    beginning = repr(answer[:40])
    return UnusableRow(
        f"The chat template rewrites the answer {beginning}, "
        f"so that it does not follow its prompt. {hint}"
    )


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


def _find_unknown_ids(tokenizer: "PreTrainedTokenizerBase") -> frozenset[int]:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    model = getattr(backend, "model", None)
    # Some settings do not name the token that the model behind them writes.
    names = {tokenizer.unk_token, getattr(model, "unk_token", None)}
    vocabulary = tokenizer.get_vocab()
    return frozenset(vocabulary[name] for name in names if name in vocabulary)


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
