"""The demo's base in int8: OpenVINO gives the answers of scoring, from a quarter of the bytes."""

import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from core.console import say
from pipelines.engines import OPENVINO, GenerationRequest
from pipelines.models.language_model import generate, load_language_model
from pipelines.stages.base_model import base_model
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.dataset import Message
from pipelines.values.params import load_params
from pipelines.values.precision import Precision
from serving.load import EngineConfig, load_engine
from tests.support.listening import Listener

PROJECT = Path(__file__).parents[2]
NEW_TOKENS = 24
COMMANDS = ("tar", "find", "git", "ssh", "grep", "sed", "awk", "curl")
WISHES = (
    "list everything that is newer than a day",
    "copy all of it to another machine",
    "stop after the first match",
)


def questions() -> list[str]:
    return [f"With {name}: {wish}" for name in COMMANDS for wish in WISHES]


@dataclass(frozen=True)
class Base:
    """The base's folder, its manifest, and its chat template."""

    folder: Path
    manifest: Path
    template: str


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    home = tmp_path_factory.mktemp("smollm2")
    params = load_params(PROJECT / "params.yaml").base_model
    manifest, template = base_model(params, home)
    assert template is not None
    manifest.write(home / "manifest.json")
    (home / "chat_template.jinja").write_text(template, encoding="utf-8")
    return Base(
        home / "base-models" / manifest.digest, home / "manifest.json", template
    )


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_openvino_gives_the_greedy_answers_of_scoring(
    base: Base, precision: Precision
) -> None:
    config = EngineConfig(
        base.folder, base.manifest, precision=precision, engine=OPENVINO
    )
    engine = load_engine(config)
    ((name, spec),) = engine.specs.items()
    assert (spec.engine, spec.precision) == (OPENVINO, precision)
    manifest = BaseModelManifest.read(base.manifest)
    language = load_language_model(manifest, base.folder, base.template, precision)
    asked = [
        language.encoder.prompt_ids((Message(role="user", content=text),))
        for text in questions()
    ]
    # One after the other: then reading the weights takes the time.
    began = time.process_time()
    answered = []
    for prompt in asked:
        listener = Listener(engine, GenerationRequest(name, tuple(prompt), NEW_TOKENS))
        answered.append(listener.rest()[0])
    seconds = time.process_time() - began
    engine.close()
    scored = generate(language, asked, max_new_tokens=NEW_TOKENS, batch_size=len(asked))
    expected = [language.encoder.decode(answer.ids) for answer in scored]
    same = sum(one == other for one, other in zip(answered, expected, strict=True))
    tokens = sum(len(answer.ids) for answer in scored)
    say(
        f"{precision}: {same} of {len(asked)} answers, "
        f"{tokens / seconds:.1f} tokens a second of processor time"
    )
    assert same >= 0.9 * len(asked)
