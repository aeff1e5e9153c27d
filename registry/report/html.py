"""HTML that is made of texts from data: nothing of them is ever markup."""

import html
import unicodedata
from collections.abc import Iterable, Sequence

_JOINERS = {"\u200c", "\u200d"}
"""Some scripts are written with these; every other invisible character is spelt out."""
_INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn"}
LONGEST_TEXT = 800
"""Characters of a text that is shown; a page must open, however long an answer is."""
LONGEST_CELL = 400


def shown(text: str) -> str:
    """Show a text as it is: escaped, with what cannot be seen spelt out."""
    # One line end, which `pre-wrap` shows.
    unified = text.replace("\r\n", "\n")
    letters = [_visible(letter) for letter in unified]
    return html.escape("".join(letters))


def _visible(letter: str) -> str:
    if letter in {"\n", "\t"} or letter in _JOINERS:
        return letter
    category = unicodedata.category(letter)
    if category in _INVISIBLE:
        return f"\\u{ord(letter):04x}"
    # Line ends of other kinds.
    if category in {"Zl", "Zp"}:
        return "\n"
    return letter


def cut(text: str, longest: int = LONGEST_TEXT) -> str:
    """Show the beginning of a text, and say how much more there is."""
    more = len(text) - longest
    if more <= 0:
        return shown(text)
    # Cut before it is escaped: half an entity would show as something else.
    beginning = shown(text[:longest])
    return f'{beginning} <em class="cut">… {more:,} more characters</em>'


def element(tag: str, content: str, **attributes: str) -> str:
    """Write an element around content that is HTML already; `class_` is the attribute `class`."""
    pairs = []
    for name, text in attributes.items():
        plain_name = name.rstrip("_").replace("_", "-")
        pairs.append(f' {plain_name}="{shown(text)}"')
    joined = "".join(pairs)
    return f"<{tag}{joined}>{content}</{tag}>"


def table(caption: str, titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table; cells are HTML already, titles and caption are texts."""
    heads = [element("th", shown(title), scope="col") for title in titles]
    lines = [element("tr", "".join(heads))]
    for row in rows:
        cells = [element("td", cell) for cell in row]
        lines.append(element("tr", "".join(cells)))
    first, *rest = lines
    head = element("thead", first)
    body = element("tbody", "\n".join(rest))
    title = element("caption", shown(caption))
    whole = element("table", f"{title}{head}{body}")
    return element("div", whole, class_="wide")


def section(identifier: str, title: str, *parts: str) -> str:
    """Write a section with its heading."""
    heading = element("h2", shown(title))
    content = "\n".join((heading, *parts))
    return element("section", content, id=identifier)


def paragraph(text: str) -> str:
    """Write a text as a paragraph."""
    return element("p", shown(text))
