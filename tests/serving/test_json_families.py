"""Each family of base models writes JSON of a schema, whatever its tokenizer makes of it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from pipelines.engines import Finished, GenerationRequest
from pipelines.engines.transformers import TransformersEngine
from pipelines.values.serving_spec import ServingSpec
from tests.support.families import FAMILIES, Family
from tests.support.families.bench import set_up
from tests.support.listening import Listener

RIGHT = [family for family in FAMILIES if family.refusal is None]
NEW_TOKENS = 240
SHORT = {"type": "string", "maxLength": 5}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        # Spaces at the beginning of words are marks in many tokenizers.
        "the  words": {"enum": [" one  two ", "Größe 大"]},
        "short": SHORT,
        "list": {"type": "array", "items": {"type": "boolean"}, "maxItems": 2},
    },
    "required": ["the  words", "short", "list"],
    "additionalProperties": False,
}


def named(family: Family) -> str:
    return family.name


@pytest.mark.slow
@pytest.mark.parametrize("family", RIGHT, ids=named)
def test_a_family_writes_json_of_its_schema(family: Family, tmp_path: Path) -> None:
    bench = set_up(family, tmp_path)
    spec = ServingSpec.of_transformers(bench.base, "float32", NEW_TOKENS)
    engine = TransformersEngine(bench.language, {"it": spec})
    prompt = bench.encoder.encode_plain("Which fox?")
    try:
        form = engine.json_form(json.dumps(SCHEMA))
        greedy = GenerationRequest("it", tuple(prompt), NEW_TOKENS, form=form)
        drawn = [replace(greedy, temperature=1.0, seed=seed) for seed in range(4)]
        listeners = [Listener(engine, each) for each in (greedy, *drawn)]
        answers = [listener.rest() for listener in listeners]
    finally:
        engine.close()
    whole = [text for text, end in answers if is_whole(end)]
    assert whole
    for text in whole:
        Draft202012Validator(SCHEMA).validate(json.loads(text))


def is_whole(end: object) -> bool:
    assert isinstance(end, Finished)
    return end.reason == "stop"
