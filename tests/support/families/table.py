"""The families as the documentation lists them."""

import textwrap
from collections.abc import Iterator

from tests.support.families import FAMILIES, Family
from tests.support.families.architectures import ARCHITECTURES

_HEAD = ("family", "layout that is tested", "outcome")
_WIDTH = 100


def make_table() -> str:
    """A Markdown table with a row for each family, in the order of `FAMILIES`."""
    rows = [_HEAD, tuple("---" for _ in _HEAD), *map(_make_row, FAMILIES)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def list_architectures() -> str:
    """The other kinds of layers that a test covers, by transformers' names, as a sentence."""
    names = ", ".join(f"`{each.title}`" for each in ARCHITECTURES)
    text = f"Other kinds of layers, without templates of their own, are right too: {names}."
    return textwrap.fill(text, _WIDTH, break_on_hyphens=False)


def _make_row(family: Family) -> tuple[str, ...]:
    return family.title, family.layout, _describe_outcome(family)


def _describe_outcome(family: Family) -> str:
    if family.refusal is not None:
        return f"refused: “{family.refusal}”"
    return "; ".join(["right", *_list_conditions(family)])


def _list_conditions(family: Family) -> Iterator[str]:
    """What a user sees of a right family, or has to set for it."""
    if not family.has_template:
        yield "`--completion-mode`"
    if not family.has_system_turn:
        yield "rows with a system turn are refused"
    if family.is_dated:
        yield "the day is that of `base_model.template_date`"
    if family.options.get("enable_thinking") is False:
        yield "thinking is switched off"
    if isinstance(family.lora_modules, tuple):
        modules = ", ".join(family.lora_modules)
        yield f"`lora.target_modules` has to be `[{modules}]`"
