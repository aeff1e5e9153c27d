"""What JSON of a schema costs a token: `python -m benchmarks.json_mask TOKENIZER`.

TOKENIZER is a folder with a tokenizer, such as that of a base. Logits are drawn by chance, so that
answers take every turn that a schema lets them take: no model is loaded. One token is chosen with
the schema and without, by turns, on the same logits; the difference is what the schema costs.
"""

import json
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pipelines.engines import Constraint, GenerationRequest
from pipelines.engines.json_form import JsonForms
from pipelines.engines.token_choice import TokenChooser
from pipelines.models.chat import ChatEncoder

_MOST_MICROSECONDS = 200.0
"""A token of SmolLM2-135M takes two cores about 7,500 where 16 answers share a step."""
_ANSWERS, _TOKENS = 20, 100
_TEXT = {"type": "string", "maxLength": 80}
_SCHEMAS: dict[str, dict[str, Any]] = {
    "any object": {"type": "object"},
    "fields": {
        "type": "object",
        "properties": {
            "name": _TEXT,
            "age": {"type": "integer"},
            "kind": {"enum": ["person", "company"]},
            "tags": {"type": "array", "items": _TEXT, "maxItems": 8},
        },
        "required": ["name", "age", "kind", "tags"],
        "additionalProperties": False,
    },
    "pattern": {"type": "string", "pattern": "^[A-Z][a-z]{2,40}(-[0-9]{1,9}){1,20}$"},
}


class _Step(NamedTuple):
    """Seconds of processor time of one choice, without the schema and with it."""

    plain: float
    held: float


def main() -> int:
    """Measure, print one JSON line last, and fail where a token costs more than it may."""
    import torch

    # All of it in the thread that is measured.
    torch.set_num_threads(1)
    encoder = ChatEncoder.load(Path(sys.argv[1]), None)
    forms = JsonForms(encoder)
    found = {name: _measure(forms, encoder, name) for name in _SCHEMAS}
    worst = max(each["median"] for each in found.values())
    line = {
        "name": "json_mask",
        "value": worst,
        "unit": "microseconds of a processor a token, median of the slowest schema",
        "goal": f"<= {_MOST_MICROSECONDS}",
        "met": worst <= _MOST_MICROSECONDS,
        "runs": {"tokens": len(encoder.tokenizer), "schemas": found},
    }
    print(json.dumps(line))
    return 0 if line["met"] else 1


def _measure(forms: JsonForms, encoder: ChatEncoder, name: str) -> dict[str, float]:
    """Microseconds that the schema adds to a token: median, 95th part of a hundred, and most."""
    form = forms.compile(json.dumps(_SCHEMAS[name]))
    added: list[float] = []
    for seed in range(_ANSWERS):
        steps = _steps(form.begin(), encoder, seed)
        added += [(step.held - step.plain) * 1e6 for step in steps]
    cuts = statistics.quantiles(added, n=20)
    figures = {"median": statistics.median(added), "p95": cuts[-1], "most": max(added)}
    return {figure: round(each, 1) for figure, each in figures.items()}


def _steps(constraint: Constraint, encoder: ChatEncoder, seed: int) -> Iterator[_Step]:
    """The tokens of one answer."""
    import torch

    request = GenerationRequest("", (), _TOKENS)
    chooser = TokenChooser(request)
    chance = torch.Generator().manual_seed(seed)
    for _ in range(_TOKENS):
        logits = torch.randn(len(encoder.tokenizer), generator=chance)
        # Of this thread: other programs of the machine take none of it.
        began = time.thread_time()
        chooser.choose(logits)
        between = time.thread_time()
        token = chooser.choose(logits, constraint)
        if token in encoder.end_ids:
            return
        constraint.take(token)
        yield _Step(between - began, time.thread_time() - between)
        if constraint.is_complete:
            return


if __name__ == "__main__":
    sys.exit(main())
