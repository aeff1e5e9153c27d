"""Tables of the documentation that are made from the code.

An extension of Python-Markdown, so that any generator runs it. A page asks for a table with
`<!-- table: NAME -->`, and for the types in its own table with `<!-- types: NAME -->`.
"""

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any, get_args

from markdown import Extension, Markdown
from markdown.preprocessors import Preprocessor
from pydantic import BaseModel

from core import errors
from pipelines.gates.policy import GatePolicy
from pipelines.metrics import ALL_METRICS
from pipelines.values.params import Params
from registry.ledger.entries import Body
from serving.openai_schema.chat import ChatMessage, ChatRequest
from serving.openai_schema.completions import CompletionRequest

TYPED: dict[str, type[BaseModel]] = {"Params": Params, "GatePolicy": GatePolicy}
_FENCE = re.compile(r"(^```.*?^```)", flags=re.DOTALL | re.MULTILINE)
_TABLE = re.compile(r"<!-- table: (\w+) -->")
_TYPES = re.compile(r"<!-- types: (\w+) -->\n((?:.+(?:\n|\Z))*)")
_ROW = re.compile(r"^\| `([\w.]+)` \|(.*)$")
_SCALARS = {"boolean": "true or false", "string": "text", "null": "null"}


class DocumentationError(Exception):
    """A page asks for what the code does not have: no site is built."""


class TablesExtension(Extension):
    """The extension as Python-Markdown takes it."""

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802 - the library's name
        """Fill in tables before anything else reads the page."""
        md.preprocessors.register(_Tables(md), "assay_tables", 1000)
        md.preprocessors.register(_WithoutSentinels(md), "assay_without_sentinels", 50)


def makeExtension(**settings: Any) -> TablesExtension:  # noqa: N802 - the library's name
    """What Python-Markdown calls."""
    return TablesExtension(**settings)


class _Tables(Preprocessor):
    def run(self, lines: list[str]) -> list[str]:
        return completed("\n".join(lines)).split("\n")


class _WithoutSentinels(Preprocessor):
    """click marks an option without a default by a sentinel, which mkdocs-click 0.9 prints."""

    def run(self, lines: list[str]) -> list[str]:
        return [line.replace("`Sentinel.UNSET`", "none") for line in lines]


def completed(text: str) -> str:
    """The page with its tables and types filled in; code blocks stay as they are."""
    parts = _FENCE.split(text)
    return "".join(part if part.startswith("```") else _filled(part) for part in parts)


def _filled(text: str) -> str:
    text = _TABLE.sub(lambda found: _table_named(found[1]), text)
    return _TYPES.sub(lambda found: _typed(found[1], found[2]), text)


def _table_named(name: str) -> str:
    if name not in TABLES:
        raise DocumentationError(
            f"A page asks for the table {name}. There are: {', '.join(sorted(TABLES))}."
        )
    return TABLES[name]()


def _table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(
        f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |"
        for line in lines
    )


def _metrics() -> str:
    better = {True: "higher", False: "lower"}
    rows = (
        (
            f"`{metric.name}`",
            metric.unit,
            better[metric.higher_is_better],
            f"{metric.scale:g}",
            _first_line(type(metric)),
            _first_line(type(metric).inapplicable),
        )
        for metric in ALL_METRICS
    )
    return _table(("metric", "unit", "better", "scale", "is", "applies"), rows)


def _served_fields() -> str:
    return _table(("field", "what to send"), _fields(ChatRequest, served=True))


def _completion_fields() -> str:
    """The fields that `/v1/completions` has, and chat has not in the same way."""
    fields = _fields(CompletionRequest, served=True)
    chat = dict(_fields(ChatRequest, served=True))
    rows = [(field, advice) for field, advice in fields if chat.get(field) != advice]
    return _table(("field", "what to send"), iter(rows))


def _neutral_fields() -> str:
    return _table(
        ("field", "why, and what is taken"), _fields(ChatRequest, served=False)
    )


def _message_fields() -> str:
    fields = (*_fields(ChatMessage, served=True), *_fields(ChatMessage, served=False))
    return _table(("field of a message", "what to send"), iter(fields))


def _fields(model: type[BaseModel], *, served: bool) -> Iterator[tuple[str, str]]:
    for name, field in model.model_fields.items():
        if (field.json_schema_extra is None) is served:
            yield f"`{name}`", field.description or ""


def _ledger_entries() -> str:
    kinds = get_args(get_args(Body)[0])
    rows = (
        (f"`{kind.model_fields['kind'].default}`", _first_line(kind), _names(kind))
        for kind in kinds
    )
    return _table(("kind", "means", "fields"), rows)


def _names(kind: type[BaseModel]) -> str:
    return ", ".join(f"`{name}`" for name in kind.model_fields if name != "kind")


def _errors() -> str:
    tree = (inspect.getdoc(errors) or "").partition("\n\n")[2]
    return f"```text\n{tree}\n```"


def _first_line(thing: object) -> str:
    return (inspect.getdoc(thing) or "").partition("\n")[0]


TABLES: dict[str, Callable[[], str]] = {
    "completion_fields": _completion_fields,
    "errors": _errors,
    "ledger_entries": _ledger_entries,
    "message_fields": _message_fields,
    "metrics": _metrics,
    "neutral_fields": _neutral_fields,
    "served_fields": _served_fields,
}


def _typed(name: str, table: str) -> str:
    """The table with a column of types behind its first one."""
    head, line, *rows = table.splitlines()
    schema = TYPED[name].model_json_schema()
    typed = [head.replace(" |", " | takes |", 1), line.replace(" |", " | --- |", 1)]
    for row in rows:
        found = _ROW.match(row)
        if found is None:
            raise DocumentationError(
                f"A row of the table with types of {name} names no field: {row}"
            )
        typed.append(f"| `{found[1]}` | {_takes(schema, found[1])} |{found[2]}")
    return "\n".join(typed) + "\n"


def _takes(schema: dict[str, Any], dotted: str) -> str:
    """What a field takes, in words."""
    place = schema
    for name in dotted.split("."):
        place = _resolved(schema, place)
        known = place.get("properties", {})
        if name not in known and not isinstance(
            place.get("additionalProperties"), dict
        ):
            raise DocumentationError(f"There is no field {dotted}, which a page names.")
        place = known[name] if name in known else place["additionalProperties"]
    return _words(_resolved(schema, place), schema)


def _resolved(schema: dict[str, Any], place: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in place:
        return dict(schema["$defs"][place["$ref"].rpartition("/")[2]])
    if place.get("type") == "array" and "$ref" in place.get("items", {}):
        return _resolved(schema, place["items"])
    return place


def _words(kind: dict[str, Any], schema: dict[str, Any]) -> str:
    if "anyOf" in kind:
        return " or ".join(
            _words(_resolved(schema, each), schema) for each in kind["anyOf"]
        )
    if "enum" in kind:
        return ", ".join(f"`{choice}`" for choice in kind["enum"])
    if kind.get("type") == "array":
        return f"list of {_words(kind['items'], schema)}" if "items" in kind else "list"
    if kind.get("type") == "object":
        entries = kind.get("additionalProperties")
        return (
            f"for each name: {_words(entries, schema)}"
            if isinstance(entries, dict)
            else "a section"
        )
    if kind.get("type") in {"integer", "number"}:
        return (
            f"{'whole number' if kind['type'] == 'integer' else 'number'}{_range(kind)}"
        )
    return _SCALARS.get(str(kind.get("type")), str(kind.get("type")))


def _range(kind: dict[str, Any]) -> str:
    words = {
        "minimum": "from {}",
        "exclusiveMinimum": "over {}",
        "maximum": "up to {}",
        "exclusiveMaximum": "under {}",
    }
    limits = [
        text.format(f"{kind[key]:,}".removesuffix(".0"))
        for key, text in words.items()
        if key in kind
    ]
    return "".join(f", {limit}" for limit in limits)
