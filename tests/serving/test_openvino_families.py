"""Each family of base models is right through OpenVINO, or refused in a sentence and served."""

from pathlib import Path

import pytest

from core.files import write_text
from pipelines.engines import OPENVINO, TRANSFORMERS, GenerationRequest, NotTaken
from pipelines.engines.openvino.opening import open_openvino
from pipelines.engines.transformers import TransformersEngine
from pipelines.models.batching import Batching
from pipelines.values.serving_spec import ServingSpec
from serving.load import EngineConfig, load_engine
from tests.support.families import FAMILIES, Family
from tests.support.families.bench import Bench, prepare, set_up
from tests.support.families.texts import examples
from tests.support.listening import Listener

RIGHT = [family for family in FAMILIES if family.refusal is None]
WITH_EXPERTS = {"mixtral", "qwen-3-experts"}
NEW_TOKENS = 12
FEW = 6


def named(family: Family) -> str:
    return family.name


@pytest.mark.slow
@pytest.mark.parametrize("family", RIGHT, ids=named)
def test_a_family_answers_through_openvino_as_through_transformers_or_is_refused(
    family: Family, tmp_path: Path
) -> None:
    bench = set_up(family, tmp_path)
    reason = reason_of(bench)
    if reason is not None:
        with pytest.raises(NotTaken, match=reason):
            open_openvino(bench.language, has_adapter=False)
        return
    spec = ServingSpec.of_transformers(bench.base, "float32", NEW_TOKENS)
    rows = open_openvino(bench.language, has_adapter=False)
    engine = TransformersEngine(bench.language, {"it": spec}, compiled=rows)
    try:
        for row in examples(FEW):
            assert answers_rightly(
                engine, bench, bench.encoder.prompt_ids(row.messages)
            )
    finally:
        engine.close()


def reason_of(bench: Bench) -> str | None:
    """Why OpenVINO does not take a family; None where it does."""
    if bench.language.batching is not Batching.SHARED_PREFIX:
        return "cannot share a step"
    if bench.family.name in WITH_EXPERTS:
        return "chooses experts"
    return None


def answers_rightly(
    engine: TransformersEngine, bench: Bench, prompt: list[int]
) -> bool:
    request = GenerationRequest("it", tuple(prompt), NEW_TOKENS, top_logprobs=0)
    listener = Listener(engine, request)
    listener.rest()
    tokens = [score.id for score in listener.scores]
    return bench.oracle.agrees(prompt, tokens, NEW_TOKENS)


@pytest.mark.ci
def test_a_base_that_openvino_does_not_take_is_served_by_transformers_which_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    family = next(family for family in RIGHT if family.name == "gemma-3")
    folder, base, template = prepare(family, tmp_path)
    base.write(tmp_path / "manifest.json")
    write_text(tmp_path / "chat_template.jinja", template or "")
    config = EngineConfig(folder, tmp_path / "manifest.json", engine=OPENVINO)
    engine = load_engine(config)
    try:
        ((name, spec),) = engine.specs.items()
        assert spec.engine == TRANSFORMERS
        text, _ = Listener(engine, GenerationRequest(name, (5, 6, 7), 4)).rest()
        assert text
    finally:
        engine.close()
    said = capsys.readouterr().err
    assert "OpenVINO does not serve" in said
    assert "cannot share a step" in said
    assert "transformers serves it" in said
