"""Text as Assay keeps it, and what makes a text unfit: characters that a reader cannot see or that reorder what is read."""

import re
import unicodedata

MAX_COMBINING_MARKS = 5
EXCERPT_CHARACTERS = 200

SURROGATE = re.compile(r"[\ud800-\udfff]")
BIDI_CONTROL = re.compile(r"[\u202a-\u202e\u2066-\u2069]")
ZERO_WIDTH = re.compile(r"[\u200b\u2060\ufeff\u180e\U000e0000-\U000e007f]")
# A joiner is part of the spelling between two letters (Persian, Indic scripts) or two emoji, and hides anywhere else.
STRAY_JOINER = re.compile(
    r"(?:^|[\x00-\x7f])[\u200c\u200d]|[\u200c\u200d](?:$|[\x00-\x7f\u200c\u200d])"
)


def canonical(text: str) -> str:
    """Line ends as LF, characters in NFC."""
    return unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))


def folded_length(text: str) -> int:
    """Characters after NFKC, which can be eighteen times what was written; white space at the ends does not count."""
    return len(unicodedata.normalize("NFKC", text).strip())


def problem_in(text: str) -> str | None:
    """Why a text is unfit, or None."""
    if "\x00" in text:
        return "a NUL character"
    if text.isascii():
        return None
    if SURROGATE.search(text):
        return "a lone surrogate"
    if BIDI_CONTROL.search(text):
        return "a bidirectional override"
    if ZERO_WIDTH.search(text) or STRAY_JOINER.search(text):
        return "a zero-width character"
    return "a flood of combining marks" if _has_mark_flood(text) else None


def excerpt(text: str) -> str:
    """The beginning of a text in printable characters."""
    shown = "".join(
        char if char.isprintable() else f"\\u{ord(char):04x}"
        for char in text[:EXCERPT_CHARACTERS]
    )
    return shown[:EXCERPT_CHARACTERS]


def _has_mark_flood(text: str) -> bool:
    run = 0
    for char in text:
        run = run + 1 if unicodedata.category(char) in {"Mn", "Me"} else 0
        if run > MAX_COMBINING_MARKS:
            return True
    return False
