"""Which code page a text is in that is not UTF-8.

charset-normalizer tells scripts apart: Cyrillic, Greek, Hebrew, Arabic, Chinese, Japanese and
Korean. Between the code pages of Latin letters it needs long texts. There Windows-1252 is taken,
which most such files are in, unless it gives what no text holds or another one speaks a language
far better.
"""

import re
from itertools import pairwise

# What people's tools wrote before UTF-8, and no EBCDIC.
_CANDIDATES = [
    "cp1252",
    "cp1250",
    "cp1251",
    "cp1253",
    "cp1254",
    "cp1255",
    "cp1256",
    "cp1257",
    "cp874",
    "cp932",
    "euc_jp",
    "gb18030",
    "big5",
    "cp949",
    "koi8_r",
    "iso8859_5",
    "cp866",
    "mac_cyrillic",
    "iso8859_2",
    "iso8859_15",
    "mac_roman",
    "cp850",
    "cp437",
]
_WESTERN = "cp1252"
# By so much another code page must fit its language better than Windows-1252 does.
_FAR_BETTER = 0.05
_LETTER = r"[^\W\d_]"
# Signs that stand between letters only where the code page is a wrong one. An apostrophe and
# the point of Catalan stand there in right ones.
_LATIN_SIGNS = r"\u00a1-\u00b6\u00b8-\u00bf\u00d7\u00f7"
_WINDOWS_SIGNS = r"\u201a\u201c-\u201e\u2020-\u2026\u2030\u2039\u203a\u02c6\u02dc"
_SIGN_IN_WORD = re.compile(rf"{_LETTER}[{_LATIN_SIGNS}{_WINDOWS_SIGNS}]{_LETTER}")
# Next to one letter, on either side, these stand in no language.
_ODD_SIGNS = "\u00a2\u00a5\u00b9\u00bc-\u00be\u00a4\u00a6\u00ac\u00a8\u00b4\u00b8"
_ODD_SIGNS += "\u02c7\u02d8-\u02db\u02dd"
_SIGN_AT_WORD = re.compile(rf"{_LETTER}[{_ODD_SIGNS}]|[{_ODD_SIGNS}]{_LETTER}")
# What ISO 8859 leaves empty, and the frames that DOS drew.
_NO_TEXT = re.compile(r"[\u0080-\u009f\u2500-\u259f]")
# Greek, Cyrillic, Hebrew, Arabic or Thai next to a Latin letter.
_OTHER_SCRIPT = "[\u0370-\u06ff\u0e00-\u0e7f]"
_TWO_SCRIPTS = re.compile(rf"[A-Za-z]{_OTHER_SCRIPT}|{_OTHER_SCRIPT}[A-Za-z]")
_WORD = re.compile(rf"{_LETTER}+")


def guess_code_page(sample: bytes) -> str | None:
    """Return the codec of a sample of lines beyond ASCII; None where none fits."""
    from charset_normalizer import from_bytes

    # Every candidate is judged, also one that the library would drop early.
    matches = list(from_bytes(sample, cp_isolation=_CANDIDATES, threshold=1.0))
    oddities = {match.encoding: _count_oddities(str(match)) for match in matches}
    # Its order says which fits best; what no text holds says more, and then that a wrong code
    # page makes signs of letters.
    best = min(
        matches,
        key=lambda match: (oddities[match.encoding], _count_signs(str(match))),
        default=None,
    )
    western = _decode_western(sample)
    if western is None or not _is_plausible(western):
        return best.encoding if best else None
    fits = {match.encoding: match.coherence for match in matches}
    likely = [
        match
        for match in matches
        if oddities[match.encoding] <= _count_oddities(western)
    ]
    if not likely:
        return _WESTERN
    # The library lists one of several code pages that give the same text.
    western_fit = fits.get(_WESTERN, likely[0].coherence)
    is_far_better = likely[0].coherence > western_fit + _FAR_BETTER
    return likely[0].encoding if is_far_better else _WESTERN


def _decode_western(sample: bytes) -> str | None:
    try:
        return sample.decode(_WESTERN)
    except UnicodeDecodeError:
        return None


def _count_oddities(text: str) -> int:
    """Count what a right text has next to none of: signs in words, capitals within them."""
    patterns = (_SIGN_IN_WORD, _SIGN_AT_WORD, _NO_TEXT, _TWO_SCRIPTS)
    signs = sum(len(pattern.findall(text)) for pattern in patterns)
    capitals = 0
    for word in _WORD.findall(text):
        for before, letter in pairwise(word):
            is_beyond_ascii = not letter.isascii()
            capitals += is_beyond_ascii and before.islower() and letter.isupper()
    return signs + capitals


def _count_signs(text: str) -> int:
    beyond_ascii = [character for character in text if not character.isascii()]
    return sum(not character.isalpha() for character in beyond_ascii)


def _is_plausible(text: str) -> bool:
    """Whether a text that was read as Windows-1252 holds Western words."""
    lines = text.count("\n") or 1
    if _count_oddities(text) > lines / 100:
        return False
    words = [word for word in _WORD.findall(text) if not word.isascii()]
    long_words = [word for word in words if len(word) > 2]
    # In Western languages letters with accents stand between others: Russian words that are
    # read as Western ones have nothing else.
    odd_words = [word for word in long_words if _share_beyond_ascii(word) > 0.7]
    return len(odd_words) <= 0.2 * len(long_words)


def _share_beyond_ascii(word: str) -> float:
    beyond = [letter for letter in word if not letter.isascii()]
    return len(beyond) / len(word)
