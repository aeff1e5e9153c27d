"""What a template writes around messages, and which of its words a message may not imitate.

A conversation is rendered with marks in place of its messages. So it is known which part of a
prompt the template wrote: a control token counts there alone.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from core.errors import UnusableRow
from pipelines.models.template import RenderingError, render
from pipelines.values.dataset import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Options = tuple[tuple[str, bool], ...]
PROMPT: Options = (("add_generation_prompt", True),)
WHOLE: Options = ()
OPEN: Options = (("continue_final_message", True),)
"""Without what the template writes after the last answer."""
_THOUGHT_END = "</think>"
# Letters and digits alone, and no word of any language.
_MARK = "Qzxturn{}qzx"
_MARKS = re.compile(r"Qzxturn(\d+)qzx")


@dataclass(frozen=True)
class Markup:
    """The template's own text around the messages of one order of roles.

    `order` holds a message's number at each of its places, since some templates move a system
    turn into the last question. `pieces` has one entry more: what stands before, between, behind.
    """

    order: tuple[int, ...]
    pieces: tuple[str, ...]

    def split(self, text: str, messages: Sequence[Message]) -> list[str] | None:
        """Return what stands at each place of a rendered text; None where messages do not."""
        position = 0
        written: list[str] = []
        for place, number in enumerate(self.order):
            position += len(self.pieces[place])
            rest = text[position:]
            form = _find_form(rest, self.pieces[place + 1], messages[number])
            if form is None:
                return None
            written.append(form)
            position += len(form)
        return written

    def join(self, written: Sequence[str]) -> str:
        """Put the template's pieces around what stands at each place."""
        parts = [self.pieces[0]]
        following = self.pieces[1:]
        for text, piece in zip(written, following, strict=True):
            parts += [text, piece]
        return "".join(parts)


@dataclass(frozen=True)
class Controls:
    """The tokens that are markup: of what is asked, and of what an assistant says."""

    asked: tuple[str, ...]
    answered: tuple[str, ...]

    @cached_property
    def _patterns(self) -> dict[str, re.Pattern[str]]:
        asked = _compile(self.asked)
        return {
            "system": asked,
            "user": asked,
            "assistant": _compile(self.answered),
        }

    def pattern(self, role: str) -> re.Pattern[str]:
        """What a message of this role may not become."""
        return self._patterns[role]

    def are_in(self, messages: Sequence[Message]) -> bool:
        """Whether a message holds one of them as text."""
        return any(self.pattern(each.role).search(each.content) for each in messages)


def find_markup(
    tokenizer: "PreTrainedTokenizerBase",
    template: str,
    roles: tuple[str, ...],
    options: Options,
) -> Markup:
    """Render an order of roles with marks; `UnusableRow` where one of them is left out."""
    conversation = [
        {"role": role, "content": _MARK.format(number)}
        for number, role in enumerate(roles)
    ]
    try:
        text = render(tokenizer, template, conversation, **dict(options))
    except RenderingError as error:
        raise describe_refusal(roles, error) from error
    # Pieces and numbers in turn: the pattern has one group.
    pieces = _MARKS.split(text)
    order = tuple(int(number) for number in pieces[1::2])
    for number, role in enumerate(roles):
        if number not in order:
            names = ", ".join(roles)
            raise UnusableRow(
                f"The chat template leaves out a turn of the {role} in a conversation of "
                f"{names}. Change the row or the template."
            )
    return Markup(order, tuple(pieces[0::2]))


def describe_refusal(roles: Sequence[str], error: RenderingError) -> UnusableRow:
    """The error of a row whose conversation a template refuses."""
    names = ", ".join(roles)
    return UnusableRow(
        f"The chat template refuses a conversation of {names} ({error}). "
        "Correct the row or the template."
    )


def find_controls(tokenizer: "PreTrainedTokenizerBase", template: str) -> Controls:
    """Find the control tokens of a tokenizer under a template.

    Special ones, and those that the template writes itself. What is asked may imitate none that
    stands in the template's text either. An assistant may use the others, such as a mark for the
    call of a tool: they are its own words.
    """
    added = tokenizer.added_tokens_decoder.values()
    # White space, which some tokenizers add for their texts, is no control.
    visible = [token for token in added if token.content.strip()]
    seen = _render_examples(tokenizer, template)
    special = [token.content for token in visible if token.special]
    written = [token.content for token in visible if token.content in seen]
    named = [token.content for token in visible if token.content in template]
    return Controls(
        asked=tuple(sorted({*special, *written, *named})),
        answered=tuple(sorted({*special, *written})),
    )


def _render_examples(tokenizer: "PreTrainedTokenizerBase", template: str) -> str:
    """The template's text around the usual orders of roles, as far as it takes them."""
    texts: list[str] = []
    for roles in (("user", "assistant"), ("system", "user", "assistant", "user")):
        for options in (PROMPT, WHOLE):
            try:
                markup = find_markup(tokenizer, template, roles, options)
            except UnusableRow:
                continue
            texts += markup.pieces
    # Apart, so that two pieces make no token together.
    return "\0".join(texts)


def _find_form(text: str, next_piece: str, message: Message) -> str | None:
    """Return how a message stands at the beginning of a text, before the next piece."""
    content = message.content
    forms = [content, content.strip()]
    # Templates take the thought out of an earlier answer.
    if message.role == "assistant" and _THOUGHT_END in content:
        answer = content.rpartition(_THOUGHT_END)[2]
        forms += [answer, answer.lstrip("\n"), answer.strip()]
    for form in forms:
        if text.startswith(form) and text.startswith(next_piece, len(form)):
            return form
    return None


def _compile(tokens: Sequence[str]) -> re.Pattern[str]:
    # A longer token has priority over one that it holds; of no token nothing is found.
    longest_first = sorted(tokens, key=len, reverse=True)
    alternatives = "|".join(map(re.escape, longest_first))
    return re.compile(alternatives or "(?!)")
