"""Labels of a sensitive feature that are probably one group, written in several ways.

By itself, since the stage `bias` compares labels and reads no file of rows.
"""

import re
import unicodedata
from collections.abc import Iterable

_SEPARATORS = re.compile(r"[\s_.\-]+")
_DASHES = re.compile(r"[\u2010-\u2015\u2212]")


def find_near_groups(labels: Iterable[str]) -> list[list[str]]:
    """Groups of labels that are probably one: F, f and Female.

    They differ in case, width, white space or separators, or one is the first letter of exactly
    one other.
    """
    by_form: dict[str, list[str]] = {}
    for label in sorted(set(labels)):
        form = _fold_label(label)
        by_form.setdefault(form, []).append(label)
    for form in list(by_form):
        longer = _find_word_of(form, by_form)
        if longer is not None:
            by_form[longer] += by_form.pop(form)
    groups = by_form.values()
    return [sorted(near) for near in groups if len(near) > 1]


def _find_word_of(initial: str, forms: Iterable[str]) -> str | None:
    """The only longer word that begins with a letter; None where there is none, or are several."""
    if len(initial) != 1 or not initial.isalpha():
        return None
    words = []
    for form in forms:
        is_word = len(form) > 2 and form.isalpha()
        if is_word and form.startswith(initial):
            words.append(form)
    # M may be male or man: with two candidates nothing is said.
    if len(words) != 1:
        return None
    return words[0]


def _fold_label(label: str) -> str:
    folded = unicodedata.normalize("NFKC", label).casefold()
    plain = _DASHES.sub("-", folded)
    # Signs and separators tell numbers apart: 18-34 is not 1834.
    if re.search(r"\d", plain):
        words = plain.split()
        return " ".join(words)
    letters = _SEPARATORS.sub("", plain)
    # A label of separators alone stays what it is.
    return letters or plain
