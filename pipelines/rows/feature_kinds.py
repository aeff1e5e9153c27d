"""Whether a value of a sensitive feature is a number or a date, as people and tools write them."""

import re
from datetime import date, time
from typing import Any

_NUMBER = re.compile(r"[+-]?(\d+([.,]\d+)?|[.,]\d+)([eE][+-]?\d+)?")
# "34 years", "20k", "€1034", "45%", "1 034,5": a sign or a word on one side of a number.
_SPACED = r"\d{1,3}([ \u00a0\u202f'.,]\d{3})+([.,]\d+)?"
_UNIT = r"[^\W\d_]{1,12}\.?|[%‰°$€£¥₹]{1,2}C?"
_QUANTITY = re.compile(
    rf"(?:(?P<before>[$€£¥₹]|[A-Z]{{3}})\s?)?[+-]?(?:{_SPACED}|\d+(?:[.,]\d+)?)"
    rf"(?:\s?(?P<after>{_UNIT}))?"
)
_DATE = re.compile(
    r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}([T ].*)?|\d{1,2}[-/.]\d{1,2}[-/.](\d{4}|\d{2})"
)
# "1 March 1980", "March 1, 1980", "1. März 1980".
_WRITTEN_DATE = re.compile(
    r"(\d{1,2}\.?\s+)?(de\s+)?[^\W\d_]{3,12}\.?\s+(de\s+)?(\d{1,2},?\s+)?\d{4}"
)


def is_number(label: Any) -> bool:
    """Whether it is a number, alone or with a unit: 34.5, "34 years", "€1034"."""
    if isinstance(label, int | float):
        return True
    if not isinstance(label, str):
        return False
    text = label.strip()
    return bool(_NUMBER.fullmatch(text) or _QUANTITY.fullmatch(text))


def is_date(label: Any) -> bool:
    """Whether it is a date or a time: of a table, in digits, or with a month in words."""
    if isinstance(label, date | time):
        return True
    if not isinstance(label, str):
        return False
    text = label.strip()
    return bool(_DATE.fullmatch(text) or _WRITTEN_DATE.fullmatch(text))


def has_fraction(label: Any) -> bool:
    """Whether it is a number without a unit, and no whole one."""
    # What is left of a float is no whole number: those are integers by now.
    if isinstance(label, float):
        return True
    if not isinstance(label, str) or not is_number(label):
        return False
    text = label.strip()
    if not _NUMBER.fullmatch(text):
        return False
    # Half of Europe writes 34,5.
    number = float(text.replace(",", "."))
    return not number.is_integer()
