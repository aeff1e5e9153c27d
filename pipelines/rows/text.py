"""Text as Assay stores it, and what makes a text unfit.

Unfit are characters that a reader cannot see, and characters that reorder what is read.
"""

import re
import unicodedata

# Usual spelling needs fewer on one letter; a flood of them covers the lines around.
MAX_COMBINING_MARKS = 5
EXCERPT_CHARACTERS = 200
WORD_CHARACTERS = 40

SURROGATE = re.compile(r"[\ud800-\udfff]")
BIDI_CONTROL = re.compile(r"[\u202a-\u202e\u2066-\u2069]")
ZERO_WIDTH = re.compile(r"[\u200b\u2060\ufeff\u180e\U000e0000-\U000e007f]")
# A joiner is part of the spelling between two letters (Persian, Indic scripts)
# or between two emoji, and hides something anywhere else.
STRAY_JOINER = re.compile(
    r"(?:^|[\x00-\x7f])[\u200c\u200d]|[\u200c\u200d](?:$|[\x00-\x7f\u200c\u200d])"
)


def canonicalise(text: str) -> str:
    """Return the text with line ends as LF and characters in NFC."""
    # Pairs first: a lone CR ended lines on old Macs.
    with_line_feeds = text.replace("\r\n", "\n")
    with_line_feeds = with_line_feeds.replace("\r", "\n")
    return unicodedata.normalize("NFC", with_line_feeds)


def count_folded_characters(text: str) -> int:
    """Count the characters after NFKC, which can be eighteen times the written ones.

    White space at the ends does not count.
    """
    folded = unicodedata.normalize("NFKC", text)
    return len(folded.strip())


def find_problem(text: str) -> str | None:
    """Say why a text is unfit; None where it is fit."""
    if "\x00" in text:
        return "a NUL character"
    # Everything below is about characters outside of ASCII: most texts end here.
    if text.isascii():
        return None
    if SURROGATE.search(text):
        return "a lone surrogate"
    if BIDI_CONTROL.search(text):
        return "a bidirectional override"
    if ZERO_WIDTH.search(text) or STRAY_JOINER.search(text):
        return "a zero-width character"
    return "a flood of combining marks" if _has_mark_flood(text) else None


def make_excerpt(text: str) -> str:
    """Return the beginning of a text in printable characters, at most 200 of them."""
    beginning = text[:EXCERPT_CHARACTERS]
    # An escape is longer than the character that it replaces: cut once more.
    return make_printable(beginning)[:EXCERPT_CHARACTERS]


def make_short_excerpt(text: str) -> str:
    """Return as much of a text as fits into a sentence, in printable characters."""
    excerpt = make_excerpt(text)
    return excerpt[:WORD_CHARACTERS]


def make_printable(text: str) -> str:
    """Return a text whose unprintable characters, line ends among them, are spelled out."""
    if text.isprintable():
        return text
    characters = [
        character if character.isprintable() else f"\\u{ord(character):04x}"
        for character in text
    ]
    return "".join(characters)


def _has_mark_flood(text: str) -> bool:
    marks_in_a_row = 0
    for character in text:
        is_mark = unicodedata.category(character) in {"Mn", "Me"}
        marks_in_a_row = marks_in_a_row + 1 if is_mark else 0
        if marks_in_a_row > MAX_COMBINING_MARKS:
            return True
    return False
