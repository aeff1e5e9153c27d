"""Forms of personal data, checked by their checksums where they have one.

What has no checksum (telephone numbers, addresses of machines) is taken by its form alone: a
version number with four parts looks like an address. Names and postal addresses have no form.
"""

from collections.abc import Callable, Iterator
from ipaddress import ip_address

from serving.guardrails.patterns import Action, Pattern

_EMAIL = (
    r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9_%+-][A-Za-z0-9._%+-]{0,63}@"
    r"(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,63}(?![A-Za-z0-9-])"
)
# Groups of four, American Express's own groups, or no groups at all.
_CARD = (
    r"(?<!\d)\d{4}([ -])\d{4}\1\d{4}\1\d{4}(?:\1\d{3})?(?!\d)",
    r"(?<!\d)\d{4}([ -])\d{4}\1\d{4}\1\d{4}(?!\d)",
    r"(?<!\d)3[47]\d{2}([ -])\d{6}\1\d{5}(?!\d)",
    r"(?<!\d)\d{13,19}(?!\d)",
)
_IBAN = (r"(?i)(?<![A-Z0-9])[A-Z]{2}\d{2}(?:[ -]?[A-Z0-9]){11,30}",)
# With a country's code, or as they are written in North America and in Europe.
_PHONE = (
    r"(?<![\w+])\+\d{1,3}(?:[ ./()-]{0,2}\d){6,13}(?!\d)",
    r"(?<![\w+.-])(?<!\d )(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}(?![\d.-]?\d)",
    r"(?<![\w+.-])(?<!\d )\(?0\d{1,4}\)?[ /-]\d{3,4}(?:[ -]?\d{2,5}){1,2}(?![\d.-]?\d)",
)
_IP = (
    r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w]|\.\d)",
    r"(?i)(?<![\w:.])(?:[0-9a-f]{0,4}:){2,7}[0-9a-f]{0,4}(?![\w:])",
)
# The digits of twice a digit, added up, as Luhn's checksum counts every second one.
_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)
_FEWEST_DIGITS, _MOST_DIGITS = 9, 15
# Characters of an IBAN in each country that has one (SWIFT's registry).
_IBAN_LENGTHS = {
    15: "NO",
    16: "BE",
    18: "DK FI FK FO GL NL SD",
    19: "MK SI",
    20: "AT BA EE KZ LT LU MN XK",
    21: "CH CR HR LI LV",
    22: "BG BH DE GB GE IE ME RS VA",
    23: "AE GI IL IQ OM SO TL",
    24: "AD CZ ES MD PK RO SA SE SK TN VG",
    25: "LY PT ST",
    26: "IS TR",
    27: "BI DJ FR GR IT MC MR SM",
    28: "AL AZ BY CY DO GT HU LB NI PL SV",
    29: "BR EG PS QA UA",
    30: "JO KW MU YE",
    31: "MT SC",
    32: "LC",
    33: "RU",
}


def personal_patterns(kind: str, action: Action) -> Iterator[Pattern]:
    """Patterns of one kind of personal data; `KeyError` where there is no such kind."""
    import regex

    expressions, measure = KINDS[kind]
    for expression in expressions:
        yield Pattern(kind, regex.compile(expression), action, measure)


def measure_card(text: str) -> int:
    """All of it where Luhn's checksum holds, else 0."""
    digits = [int(character) for character in text if character.isdecimal()]
    total = 0
    for place, digit in enumerate(reversed(digits)):
        is_doubled = place % 2 == 1
        total += _DOUBLED[digit] if is_doubled else digit
    # All zeros satisfy it, and are nobody's card.
    if total % 10 or not any(digits):
        return 0
    return len(text)


def measure_iban(text: str) -> int:
    """As many characters as an IBAN of its country has, where its checksum holds; else 0."""
    length = _length_of(text[:2].upper())
    end = _end_of(text, length)
    if end == 0:
        return 0
    # Nothing of a word may be left behind it.
    if text[end : end + 1].isalnum():
        return 0
    compact = "".join(character for character in text[:end] if character.isalnum())
    moved = compact[4:] + compact[:4]
    number = "".join(str(int(character, 36)) for character in moved)
    return end if int(number) % 97 == 1 else 0


def measure_phone(text: str) -> int:
    """All of it where it has as many digits as numbers of subscribers have, else 0."""
    digits = sum(character.isdecimal() for character in text)
    if _FEWEST_DIGITS <= digits <= _MOST_DIGITS:
        return len(text)
    return 0


def measure_ip(text: str) -> int:
    """All of it where it is an address of a machine, else 0."""
    try:
        address = ip_address(text)
    except ValueError:
        return 0
    # `::` is written for other things as well.
    return 0 if address.is_unspecified else len(text)


def _length_of(country: str) -> int:
    for length, countries in _IBAN_LENGTHS.items():
        if country in countries.split():
            return length
    return 0


def _end_of(text: str, characters: int) -> int:
    """Where so many letters and digits end; 0 where there are fewer."""
    seen = 0
    for place, character in enumerate(text, 1):
        seen += character.isalnum()
        if seen == characters:
            return place
    return 0


_Measure = Callable[[str], int]
KINDS: dict[str, tuple[tuple[str, ...], _Measure]] = {
    "email": ((_EMAIL,), len),
    "phone": (_PHONE, measure_phone),
    "iban": (_IBAN, measure_iban),
    "card": (_CARD, measure_card),
    "ip": (_IP, measure_ip),
}
"""Expressions and measure of each kind."""
