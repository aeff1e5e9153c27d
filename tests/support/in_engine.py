"""Versions that another engine scored, made of ones that transformers scored."""

import json
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

from core.files import write_text
from pipelines.engines import OPENVINO, Engine, GenerationRequest
from registry.release.known_answers import (
    KnownAnswer,
    read_known_answers,
    write_known_answers,
)
from serving.load import EngineConfig, load_engine
from tests.support.endpoint_system import Home
from tests.support.listening import Listener
from tests.support.tiny import pack


def in_openvino(home: Home, *versions: str) -> Home:
    """The same home, in which those versions were scored by OpenVINO."""
    for each in versions:
        spec = home.specs[each]
        base_folder = home.path / "base-models" / spec.base_digest
        score = partial(score_in_openvino, base_folder=base_folder)
        home = home.with_changed(each, score)
        own = spec.in_engine(OPENVINO, version(OPENVINO))
        home = replace(home, specs={**home.specs, each: own})
    return home


def score_in_openvino(package: Path, base_folder: Path) -> None:
    """Have its verdict and its known answers be those of scoring by OpenVINO, and pack it."""
    say_engine(package, OPENVINO, version(OPENVINO))
    config = EngineConfig(base_folder, package / "base_model.json", package)
    path = package / "known_answers.jsonl"
    engine = load_engine(config)
    try:
        rescored = [_ask(engine, known) for known in read_known_answers(path)]
    finally:
        engine.close()
    write_known_answers(path, rescored)
    pack(package)


def say_engine(package: Path, engine: str, engine_version: str) -> None:
    """Have its verdict name another engine that scored, and pack it."""
    path = package / "verdict.json"
    verdict = json.loads(path.read_text(encoding="utf-8"))
    verdict["spec"] |= {"engine": engine, "engine_version": engine_version}
    write_text(path, json.dumps(verdict))
    pack(package)


def _ask(engine: Engine, known: KnownAnswer) -> KnownAnswer:
    prompt = tuple(engine.prompt_ids(known.messages, "tuned"))
    listener = Listener(engine, GenerationRequest("tuned", prompt, known.max_tokens))
    text, _ = listener.rest()
    return known.model_copy(update={"text": text})
