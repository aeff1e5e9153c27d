"""A version whose scores hold for int8, made of one that was scored in float32."""

import json
from pathlib import Path

from core.files import write_text
from pipelines.models.language_model import generate, load_language_model
from pipelines.values.base_manifest import BaseModelManifest
from registry.release.known_answers import (
    KnownAnswer,
    read_known_answers,
    write_known_answers,
)
from tests.support.tiny import CHAT_TEMPLATE


def score_in_int8(package: Path, base_folder: Path) -> None:
    """Have its verdict and its known answers say what scoring in int8 would have said.

    Its own list of digests is not written anew: `pack` does that.
    """
    verdict = json.loads((package / "verdict.json").read_text(encoding="utf-8"))
    verdict["spec"]["precision"] = "int8"
    write_text(package / "verdict.json", json.dumps(verdict))
    base = BaseModelManifest.read(package / "base_model.json")
    language = load_language_model(
        base, base_folder, CHAT_TEMPLATE, "int8", package / "adapter"
    )
    path = package / "known_answers.jsonl"
    rescored: list[KnownAnswer] = []
    for known in read_known_answers(path):
        prompt = language.encoder.prompt_ids(known.messages)
        (answer,) = generate(
            language, [prompt], max_new_tokens=known.max_tokens, batch_size=1
        )
        text = language.encoder.decode(answer.ids)
        rescored.append(known.model_copy(update={"text": text}))
    write_known_answers(path, tuple(rescored))
