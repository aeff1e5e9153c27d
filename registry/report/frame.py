"""The page around the sections: one file, which loads nothing and runs nothing."""

from collections.abc import Iterable
from pathlib import Path

from registry.report.html import element, shown

# A file of its own, which the wheel holds and the page includes.
_STYLE = Path(__file__).with_name("style.css")
# A browser obeys it even if a text got past the escaping.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def frame(title: str, heading: str, sections: Iterable[str], note: str = "") -> str:
    """Put sections, which are HTML already, under a heading; the other three are texts.

    A section with nothing to show is an empty text, and leaves no trace.
    """
    style = _STYLE.read_text(encoding="utf-8")
    # An empty section would leave a line that says nothing.
    parts = [part for part in sections if part]
    if note:
        parts.append(element("p", shown(note), class_="note"))
    body = "\n".join(parts)
    return (
        "<!doctype html>\n"
        '<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{shown(_POLICY)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{shown(title)}</title>\n<style>{style}</style></head>\n"
        f"<body><main><h1>{shown(heading)}</h1>\n{body}</main></body></html>\n"
    )
