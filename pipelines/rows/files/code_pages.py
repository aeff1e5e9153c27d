"""Which code page a text is in that is not UTF-8.

charset-normalizer tells scripts apart: Cyrillic, Greek, Hebrew, Arabic, Chinese, Japanese and
Korean. Between the code pages of Latin letters it needs long texts. There Windows-1252 is taken,
which most such files are in, unless it gives what no text holds or another one speaks a language
far better.
"""

import re

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
    "mac_roman",
    "cp850",
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
_WORD = re.compile(rf"{_LETTER}+")


def guess_code_page(sample: bytes) -> str | None:
    """Return the codec of a sample of lines beyond ASCII; None where none fits."""
    from charset_normalizer import from_bytes

    # Every candidate is judged, also one that the library would drop early.
    matches = from_bytes(sample, cp_isolation=_CANDIDATES, threshold=1.0)
    best = matches.best()
    if not _is_plausibly_western(sample):
        return best.encoding if best else None
    if best is None:
        return _WESTERN
    fits = {match.encoding: match.coherence for match in matches}
    # The library lists one of several code pages that give the same text.
    western_fit = fits.get(_WESTERN, best.coherence)
    is_far_better = best.coherence > western_fit + _FAR_BETTER
    return best.encoding if is_far_better else _WESTERN


def _is_plausibly_western(sample: bytes) -> bool:
    try:
        text = sample.decode(_WESTERN)
    except UnicodeDecodeError:
        return False
    lines = text.count("\n") or 1
    if len(_SIGN_IN_WORD.findall(text)) > lines / 100:
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
