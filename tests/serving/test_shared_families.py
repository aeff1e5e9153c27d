"""Each family of base models is right with several adapters in one process, by either engine."""

from pathlib import Path

import pytest

from pipelines.engines import OPENVINO, TRANSFORMERS, GenerationRequest, NotTaken
from pipelines.engines.openvino.opening import make_trial
from pipelines.engines.openvino.sharing import check_sharing, open_on_openvino
from pipelines.engines.shared.engine import ReleaseEngine
from pipelines.engines.shared.opening import open_on_transformers, prepare
from pipelines.models.batching import Batching
from pipelines.values.serving_spec import ServingSpec
from tests.support.adapters import PLAIN, write_adapter
from tests.support.families import FAMILIES, Family
from tests.support.families.bench import Bench, set_up
from tests.support.families.texts import examples
from tests.support.listening import Listener

RIGHT = [family for family in FAMILIES if family.refusal is None]
WITH_EXPERTS = {"mixtral", "qwen-3-experts", "qwen-3-next"}
WITHOUT_ATTENTION = {"mamba", "falcon-mamba"}
NEW_TOKENS = 10
FEW = 4


def named(family: Family) -> str:
    return family.name


@pytest.mark.slow
@pytest.mark.parametrize("engine", [TRANSFORMERS, OPENVINO])
@pytest.mark.parametrize("family", RIGHT, ids=named)
def test_adapters_of_a_family_answer_at_once_each_as_peft_computes_it(
    family: Family, engine: str, tmp_path: Path
) -> None:
    bench = set_up(family, tmp_path)
    folders = []
    for rank in (4, 9):
        settings = {**PLAIN, "r": rank, "target_modules": adapted(family)}
        folder = tmp_path / f"rank-{rank}"
        folders.append(write_adapter(bench.folder, folder, rank, settings))
    tuned = [bench.with_adapter(folder) for folder in folders]
    language = tuned[0].language
    prepared = prepare(language, folders[0], make_trial(language))
    if engine == OPENVINO and is_left_to_transformers(bench):
        with pytest.raises(NotTaken):
            check_sharing(prepared.language)
        return
    open_engine = open_on_transformers if engine == TRANSFORMERS else open_on_openvino
    shared = open_engine(prepared)
    spec = ServingSpec.of_transformers(bench.base, "float32", NEW_TOKENS)
    specs = {"tuned": spec.with_adapter("0" * 64), "base": spec}
    try:
        attached = []
        for folder in folders:
            adapter = prepared.skeleton.read(folder)
            attached.append(shared.attach(adapter, specs))
        check_answers(attached, tuned, bench)
    finally:
        shared.close()


def adapted(family: Family) -> str | list[str]:
    """The layers that adapters change."""
    # What chooses experts is no linear layer.
    if family.name in WITH_EXPERTS:
        return ["q_proj", "v_proj"]
    # peft refuses the last layer of these.
    if family.name in WITHOUT_ATTENTION:
        return ["in_proj", "x_proj"]
    return "all-linear"


def is_left_to_transformers(bench: Bench) -> bool:
    """Whether OpenVINO does not take a family at all."""
    is_batched = bench.language.batching is Batching.SHARED_PREFIX
    return not is_batched or bench.family.name in WITH_EXPERTS


def check_answers(
    attached: list[ReleaseEngine], tuned: list[Bench], bench: Bench
) -> None:
    first, _ = attached
    ways = [
        (each, "tuned", bench_of)
        for each, bench_of in zip(attached, tuned, strict=True)
    ]
    ways.append((first, "base", bench))
    asked = []
    for row in examples(FEW):
        prompt = bench.encoder.prompt_ids(row.messages)
        for engine, model, right in ways:
            request = GenerationRequest(
                model, tuple(prompt), NEW_TOKENS, top_logprobs=0
            )
            asked.append((prompt, right, Listener(engine, request)))
    for prompt, right, listener in asked:
        listener.rest()
        tokens = [score.id for score in listener.scores]
        assert right.oracle.agrees(prompt, tokens, NEW_TOKENS)
