"""What has the form of personal data or of a secret is found, wherever a stream cuts it."""

import time

import pytest

from serving.guardrails.rules import everything
from serving.guardrails.text_filter import TextFilter, filtered

KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow/+=\n-----END RSA PRIVATE KEY-----"
FOUND = [
    ("mail jo.doe+x@mail.example.co.uk.", "mail [EMAIL]."),
    ("a@b.de, c@d.org", "[EMAIL], [EMAIL]"),
    ("card 4111 1111 1111 1111 12 times", "card [CARD] 12 times"),
    ("5500-0000-0000-0004!", "[CARD]!"),
    ("378282246310005 and 3782 822463 10005", "[CARD] and [CARD]"),
    ("DE89 3704 0044 0532 0130 00 BUND", "[IBAN] BUND"),
    ("gb82west12345698765432,", "[IBAN],"),
    ("+49 (0)30 1234567 or (212) 555-0199", "[PHONE] or [PHONE]"),
    ("030-1234-5678", "[PHONE]"),
    ("from 10.0.0.1 to 2001:db8::1", "from [IP] to [IP]"),
    ("AKIAIOSFODNN7EXAMPLE is a key", "[SECRET] is a key"),
    ("postgres://ann:hunter2@db/x", "[SECRET]db/x"),
    (f"so:\n{KEY}\nbye", "so:\n[SECRET]\nbye"),
    ("-----BEGIN PRIVATE KEY-----\nMIIEow", "[SECRET]"),
    (f"ghp_{'a' * 36}.", "[SECRET]."),
]
NOT_FOUND = [
    "4111 1111 1111 1112",
    "0000 0000 0000 0000",
    "DE89 3704 0044 0532 0130 01",
    "ZZ89 3704 0044 0532 0130 00",
    "999.1.1.1 and 1.2.3",
    "std::vector at 12:30:45",
    "2026-11-27, 1,234,567.89 and 12345678",
    "user@localhost, @name, a@b",
    "tar -xzf archive.tar.gz | head -n 10",
]


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize(("text", "masked"), FOUND, ids=[each[1] for each in FOUND])
def test_what_has_the_form_is_masked_in_whatever_pieces_it_comes(
    text: str, masked: str, size: int
) -> None:
    text_filter = TextFilter(everything())
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    sent = [text_filter.feed(piece) for piece in pieces]
    assert "".join([*sent, text_filter.finish()]) == masked


@pytest.mark.parametrize("text", NOT_FOUND)
def test_what_only_looks_like_it_stays_as_it_is(text: str) -> None:
    masked, text_filter = filtered(everything(), text)
    assert (masked, text_filter.found) == (text, {})


def test_ordinary_words_are_not_held_back_for_longer_than_a_word() -> None:
    text_filter = TextFilter(everything())
    sent = text_filter.feed("List all files in this folder, then ")
    assert sent == "List all files in this folder, then "
    assert text_filter.holds_nothing


@pytest.mark.parametrize(
    "part",
    ["a", "1 ", "a.", "eyJ", "-----BEGIN PRIVATE KEY-----", "a://", "DE89 ", "a@"],
)
def test_no_text_takes_long_to_look_at(part: str) -> None:
    # A pattern that goes back over what it has read would take minutes.
    began = time.process_time()
    filtered(everything(), part * (50_000 // len(part)))
    assert time.process_time() - began < 5
