"""A page as a browser sees it, and texts that would like to be more than text."""

from html.parser import HTMLParser

HTML = '<script src="//evil.test/x.js">alert(1)</script><img src=x onerror=alert(1)>'
HOSTILE = f"{HTML}\"'`]]>=cmd|' /C calc'!A0\x00\x1b\u202e&amp;</p></body>"

LOADING = {"src", "href", "srcset", "action", "data", "background", "poster"}
TAGS = {
    *("html", "head", "meta", "title", "style", "body", "main", "section", "div", "p"),
    *("h1", "h2", "h3", "h4", "b", "em", "span", "code", "figure", "figcaption"),
    *("table", "caption", "thead", "tbody", "tr", "th", "td", "ul", "li"),
    *("svg", "path", "rect", "circle", "text"),
}


class Page(HTMLParser):
    """What a browser sees: elements that are closed in order, attributes, and texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text, self.words = text, ""
        self.tags: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in TAGS, tag
        self.tags.append(tag)
        names = {name for name, _ in attrs}
        assert names.isdisjoint(LOADING)
        assert not any(name.startswith("on") for name in names)
        if tag == "svg":
            assert dict(attrs)["role"] == "img"
            assert dict(attrs)["aria-label"]
        if tag != "meta":
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in TAGS, tag
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.words += data
