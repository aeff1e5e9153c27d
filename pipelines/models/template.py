"""What a chat template writes around an answer, and what is fixed in it before it is used.

A template is tried on words of our own: where they come out says how it begins and ends a turn.
Two things of a template may change from one rendering to the next, and are fixed in its text:
today's date, and whether a thought is opened in front of the answer.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from core.errors import UnusableBaseModel, first_line

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Words that no template holds or rewrites: letters alone, and no word of any language.
_QUESTION = "Qzxquestion"
_ANSWER = "Qzxanswer"
_REMEDY = "Correct it, or give another with --chat-template."
# Templates know these switches; each is tried where an answer does not follow its prompt.
_SWITCHES = ("enable_thinking", "thinking")
# Written behind what is put in front of a template: a line end after it stays the template's.
_NOTHING = "{{ '' }}"
# Directives of strftime that are always known; with flags, those that a template holds.
_DIRECTIVES = "aAbBcCdDeFfgGhHIjklmMnpPrRsStTuUVwWxXyYzZ"
_DIRECTIVE = re.compile(r"%[-_0^#EO]*[A-Za-z]")


@dataclass(frozen=True)
class FixedTemplate:
    """A template that renders the same on every day, and what had to be fixed for that."""

    text: str
    notes: tuple[str, ...]


def fix_template(
    tokenizer: "PreTrainedTokenizerBase", template: str, today: date
) -> FixedTemplate:
    """Return the template with the date fixed and, where it opens a thought, thinking off.

    `UnusableBaseModel` where an answer does not follow its prompt even so.
    """
    notes: list[str] = []
    is_dated = re.search(r"\bstrftime_now\b", template)
    if is_dated:
        definition = _define_date(today, template)
        template = definition + template
        day = today.isoformat()
        notes.append(f"its date is fixed at {day}")
    try:
        find_ending(tokenizer, template)
    except UnusableBaseModel as error:
        switched = _switch_thinking_off(tokenizer, template)
        if switched is None:
            raise error from None
        template, switch = switched
        notes.append(f"{switch} is off, since rows hold answers without thoughts")
    return FixedTemplate(
        template,
        tuple(notes),
    )


def find_ending(tokenizer: "PreTrainedTokenizerBase", template: str) -> str:
    """Find what the template writes after an answer.

    `UnusableBaseModel` where it leaves out what a user says, where it does not render, or where
    a conversation with an answer does not go on as its prompt began.
    """
    question = {"role": "user", "content": _QUESTION}
    answer = {"role": "assistant", "content": _ANSWER}
    prompt = _render_example(
        tokenizer, template, [question], add_generation_prompt=True
    )
    whole = _render_example(tokenizer, template, [question, answer])
    # Such a template trains and serves without an error, and without the question.
    if _QUESTION not in prompt or _QUESTION not in whole:
        raise UnusableBaseModel(
            f"The chat template leaves out what a user says. {_REMEDY}"
        )
    if _ANSWER not in whole:
        raise UnusableBaseModel(
            f"The chat template leaves out what an assistant answers. {_REMEDY}"
        )
    if not whole.startswith(prompt):
        raise UnusableBaseModel(_describe_other_beginning(prompt))
    before, _, after = whole[len(prompt) :].partition(_ANSWER)
    if before.strip():
        raise UnusableBaseModel(
            f"The chat template writes {_show(before)} between a prompt and its answer, "
            f"which no prompt ends with: the model would have to write it. {_REMEDY}"
        )
    return after


def render(
    tokenizer: "PreTrainedTokenizerBase",
    template: str,
    conversation: Sequence[dict[str, str]],
    **options: Any,
) -> str:
    """Render a conversation to text; `RenderingError` where the template refuses it."""
    return str(_apply(tokenizer, template, conversation, tokenize=False, **options))


class RenderingError(ValueError):
    """A template refuses a conversation; the text is the reason."""


def _apply(
    tokenizer: "PreTrainedTokenizerBase",
    template: str,
    conversation: Sequence[dict[str, str]],
    **options: Any,
) -> Any:
    from jinja2 import TemplateError

    try:
        return tokenizer.apply_chat_template(
            list(conversation), chat_template=template, **options
        )
    # What a template computes may fail as any program may.
    except (
        TemplateError,
        ArithmeticError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
    ) as error:
        raise RenderingError(first_line(error)) from error


def _render_example(
    tokenizer: "PreTrainedTokenizerBase",
    template: str,
    conversation: Sequence[dict[str, str]],
    **options: Any,
) -> str:
    try:
        return render(tokenizer, template, conversation, **options)
    except RenderingError as error:
        raise UnusableBaseModel(
            f"The chat template does not render ({error}). {_REMEDY}"
        ) from error


def _describe_other_beginning(prompt: str) -> str:
    _, _, ending = prompt.partition(_QUESTION)
    if "think" in ending:
        return (
            f"The chat template opens a thought in front of an answer ({_show(ending)}), "
            f"and writes answers without one. {_REMEDY}"
        )
    return (
        f"The chat template ends a prompt with {_show(ending)}, "
        f"and writes something else in front of an answer. {_REMEDY}"
    )


def _switch_thinking_off(
    tokenizer: "PreTrainedTokenizerBase", template: str
) -> tuple[str, str] | None:
    """Return a template under which answers follow their prompts, and the switch it took."""
    for switch in _SWITCHES:
        if switch not in template:
            continue
        switched = f"{{% set {switch} = false %}}{_NOTHING}{template}"
        try:
            find_ending(tokenizer, switched)
        except UnusableBaseModel:
            continue
        return switched, switch
    return None


def _define_date(today: date, template: str) -> str:
    """Return Jinja that defines `strftime_now` as midnight, UTC, of one day.

    It hides transformers' function of that name, which gives the present moment.
    """
    usual = {f"%{letter}" for letter in _DIRECTIVES}
    asked = usual.union(_DIRECTIVE.findall(template))
    # The longest first: %-d is no %- and a d.
    directives = sorted(
        asked - {"%%"}, key=lambda directive: (-len(directive), directive)
    )
    midnight = datetime(today.year, today.month, today.day, tzinfo=UTC)
    # A doubled sign is one sign, and no directive with what follows it.
    written = [
        (directive, _write_moment(midnight, directive)) for directive in directives
    ]
    replacements = [("%%", "\0"), *written, ("\0", "%")]
    filters = [f"replace({old!r}, {new!r})" for old, new in replacements]
    body = " | ".join(["format", *filters])
    return (
        f"{{% macro strftime_now(format) %}}{{{{ {body} }}}}{{% endmacro %}}{_NOTHING}"
    )


def _write_moment(moment: datetime, directive: str) -> str:
    # The only one that the C library writes in the machine's own time zone.
    if directive.endswith("s"):
        return str(int(moment.timestamp()))
    return moment.strftime(directive)


def _show(text: str) -> str:
    shown = text if len(text) <= 60 else f"{text[:57]}..."
    return repr(shown)
