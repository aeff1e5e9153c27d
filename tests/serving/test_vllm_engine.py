"""vLLM gives the answers that were scored, base and adapter each by its name, or is not used."""

import json
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from core.errors import ServingError
from core.files import write_text
from pipelines.engines import (
    VLLM,
    Engine,
    Failed,
    Finished,
    GenerationRequest,
    Piece,
)
from pipelines.engines.refusal import Refusal
from pipelines.engines.vllm.engine import VllmEngine
from pipelines.engines.vllm.opening import Weights, open_vllm, plan_vllm
from pipelines.engines.vllm.order import AdapterOrder
from pipelines.models.language_model import load_language_model
from serving.load import load_engine
from tests.serving.test_json_answers import (
    CHAIN,
    HARD,
    MULTIPLES,
    SCHEMAS,
    check_answer,
    requests_for,
)
from tests.support.listening import Listener
from tests.support.running_engine import Served, stop_in
from tests.support.side_by_side import greedy_texts, token_prompts
from tests.support.texts_alone import NEW_TOKENS, texts_alone
from tests.support.tiny import (
    CHAT_TEMPLATE,
    make_tiny_adapter,
    make_tiny_base,
    make_tiny_package,
    tiny_manifest,
)
from tests.support.vllm_environment import VLLM_HEAD_SIZE, patient_vllm
from tests.support.waiting import wait_until

MODELS = ("tuned", "tiny")
LONG = 400
WITHOUT_SPACE = {"enum", "choice", "pattern", "date"}
PROMPT = (5, 100, 200)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def setting(vllm_python: Path) -> Iterator[None]:
    with patient_vllm(vllm_python):
        yield


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Served:
    """A base that vLLM takes, and an adapter whose alpha is twice its rank."""
    root = tmp_path_factory.mktemp("wide")
    base_folder = make_tiny_base(root / "base", VLLM_HEAD_SIZE)
    base = tiny_manifest(base_folder, root / "home")
    base.write(root / "manifest.json")
    make_tiny_package(base_folder, base, root / "package")
    return Served(base_folder, root / "manifest.json", base, root / "package")


@pytest.fixture(scope="module")
def reference(wide: Served) -> Iterator[Engine]:
    made = load_engine(wide.config)
    yield made
    made.close()


@pytest.fixture(scope="module")
def vllm(wide: Served, setting: None) -> Iterator[VllmEngine]:
    made = load_engine(replace(wide.config, engine=VLLM))
    assert isinstance(made, VllmEngine)
    yield made
    made.close()


def texts_of_peft(
    served: Served, adapter: Path | None, asked: Sequence[tuple[int, ...]]
) -> list[str]:
    language = load_language_model(
        served.base, served.base_folder, CHAT_TEMPLATE, "float32", adapter
    )
    return texts_alone(language, asked)


def test_greedy_answers_at_once_are_those_of_peft_with_the_adapter_and_without(
    vllm: Engine, wide: Served
) -> None:
    asked = token_prompts(24)
    expected = {
        "tuned": texts_of_peft(wide, wide.package / "adapter", asked),
        "tiny": texts_of_peft(wide, None, asked),
    }
    assert expected["tuned"] != expected["tiny"]
    assert greedy_texts(vllm, 24, NEW_TOKENS) == expected


def test_what_is_served_says_that_vllm_computed_it(
    vllm: Engine, reference: Engine
) -> None:
    for model in MODELS:
        scored, loaded = reference.specs[model], vllm.specs[model]
        assert loaded.engine == VLLM
        assert scored.is_computed_otherwise(loaded)
    # vLLM's own fingerprint names no adapter.
    assert len({spec.fingerprint for spec in vllm.specs.values()}) == 2


def test_probabilities_are_those_of_the_reference_engine(
    vllm: Engine, reference: Engine
) -> None:
    for model in MODELS:
        request = GenerationRequest(model, PROMPT, NEW_TOKENS, top_logprobs=3)
        ours, theirs = Listener(vllm, request), Listener(reference, request)
        assert ours.rest() == theirs.rest()
        for one, other in zip(ours.scores, theirs.scores, strict=True):
            assert one.id == other.id
            assert one.text == other.text
            assert one.logprob == pytest.approx(other.logprob, abs=1e-3)
            assert [each[0] for each in one.top] == [each[0] for each in other.top]


def test_a_stop_string_ends_an_answer_where_it_ends_one_of_the_reference_engine(
    vllm: Engine, reference: Engine
) -> None:
    request = GenerationRequest("tuned", PROMPT, LONG)
    whole, _ = Listener(reference, request).rest()
    stopping = replace(request, stop=(stop_in(whole),))
    expected = Listener(reference, stopping).rest()
    assert expected[1] == Finished("stop", len(expected[0]))
    assert Listener(vllm, stopping).rest() == expected


def drawn(engine: Engine, seed: int | None, max_tokens: int = 40) -> Listener:
    """An answer that is drawn, from a distribution that is almost even."""
    request = GenerationRequest("tuned", PROMPT, max_tokens, temperature=2.0, seed=seed)
    return Listener(engine, request)


def test_a_seed_draws_the_same_answer_whoever_else_is_answered(vllm: Engine) -> None:
    alone = drawn(vllm, 7).rest()[0]
    others = [drawn(vllm, seed) for seed in (8, -1, None, None)]
    again = drawn(vllm, 7).rest()[0]
    texts = [other.rest()[0] for other in others]
    assert again == alone
    assert len({alone, *texts}) == 5


def test_the_token_that_ends_a_turn_ends_an_answer_and_is_no_part_of_it(
    vllm: Engine,
) -> None:
    answers = [drawn(vllm, seed, LONG).rest() for seed in range(12)]
    ended = []
    for text, end in answers:
        if isinstance(end, Finished) and end.reason == "stop":
            ended.append(text)
            assert end.completion_tokens < LONG
    # One token in 259, so about four answers in five.
    assert ended
    assert not any("<|im_end|>" in text for text in ended)


def ask_server(engine: VllmEngine, path: str, token: str) -> httpx.Response:
    with httpx.Client(
        transport=httpx.HTTPTransport(uds=str(engine._server.address.socket)),
        base_url="http://vllm",
        headers={"authorization": f"Bearer {token}"},
    ) as client:
        return client.get(path)


def answers_in(engine: VllmEngine) -> float:
    """How many vLLM is computing, as it says itself."""
    said = ask_server(engine, "/metrics", engine._server.address.token).text
    counts = [
        float(line.rsplit(" ", 1)[1])
        for line in said.splitlines()
        if line.startswith("vllm:num_requests_running")
    ]
    assert counts
    return sum(counts)


def test_an_answer_that_is_cancelled_is_computed_no_further(vllm: VllmEngine) -> None:
    listener = Listener(vllm, GenerationRequest("tuned", PROMPT, LONG))
    assert isinstance(listener.first(), Piece)
    listener.cancel()
    _, end = listener.rest()
    assert isinstance(end, Finished)
    assert end.reason == "cancelled"
    assert end.completion_tokens < LONG
    wait_until(lambda: answers_in(vllm) == 0)


def test_an_answer_that_is_cancelled_at_once_ends_as_well(vllm: Engine) -> None:
    listeners = [
        Listener(vllm, GenerationRequest("tiny", PROMPT, LONG)) for _ in range(20)
    ]
    for listener in listeners:
        listener.cancel()
    ends = [listener.rest()[1] for listener in listeners]
    assert all(isinstance(end, Finished) for end in ends)


def test_nobody_without_the_token_reaches_a_route_of_the_server(
    vllm: VllmEngine,
) -> None:
    socket = vllm._server.address.socket
    assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700
    for path in ("/health", "/v1/models", "/invocations", "/tokenize", "/metrics"):
        assert ask_server(vllm, path, "guessed").status_code == 401
    # And with it there is no route by which an adapter could be loaded or exchanged.
    own = vllm._server.address.token
    assert ask_server(vllm, "/v1/models", own).status_code == 200
    for path in ("/v1/load_lora_adapter", "/v1/unload_lora_adapter"):
        assert ask_server(vllm, path, own).status_code == 404


def test_files_that_are_exchanged_after_the_load_change_no_answer(
    vllm: Engine, wide: Served, tmp_path: Path
) -> None:
    before = greedy_texts(vllm, 8, NEW_TOKENS)
    adapter = wide.package / "adapter"
    make_tiny_adapter(wide.base_folder, wide.base, tmp_path / "other", seed=2)
    shutil.copytree(adapter, tmp_path / "kept")
    try:
        shutil.copytree(tmp_path / "other", adapter, dirs_exist_ok=True)
        others = texts_of_peft(wide, adapter, token_prompts(8))
        after = greedy_texts(vllm, 8, NEW_TOKENS)
    finally:
        shutil.copytree(tmp_path / "kept", adapter, dirs_exist_ok=True)
    assert others != before["tuned"]
    assert after == before


def test_what_the_engine_lacks_is_refused(vllm: Engine) -> None:
    request = GenerationRequest("tuned", PROMPT, 4, scores_prompt=True)
    with pytest.raises(Refusal, match="score prompts"):
        Listener(vllm, request)


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_answer_is_json_of_its_schema(
    vllm: Engine, reference: Engine, name: str
) -> None:
    schema = SCHEMAS[name]
    held = requests_for(vllm, schema)
    answers = [Listener(vllm, each) for each in held]
    whole = 0
    for request, listener in zip(held, answers, strict=True):
        text, end = listener.rest()
        check_answer(schema, text, end)
        whole += end != Finished("length", request.max_tokens)
        # What is free beside the schema, its white space, versions of the library see otherwise.
        if request.temperature == 0 and name in WITHOUT_SPACE:
            form = reference.json_form(json.dumps(schema))
            greedy = Listener(reference, replace(request, form=form))
            assert greedy.rest()[0] == text
    assert whole


def test_rows_with_a_schema_leave_those_without_as_they_are(vllm: Engine) -> None:
    plain = [
        GenerationRequest(model, (9, 8, number), 40, temperature, seed=number)
        for model in MODELS
        for number, temperature in enumerate((0.0, 1.2))
    ]
    alone = [Listener(vllm, each).rest() for each in plain]
    held = [Listener(vllm, each) for each in requests_for(vllm, SCHEMAS["nested"])]
    others = [Listener(vllm, each) for each in plain]
    assert [each.rest() for each in others] == alone
    for listener in held:
        check_answer(SCHEMAS["nested"], *listener.rest())


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(levels):
        schema = {"type": "array", "items": schema}
    return schema


@pytest.mark.parametrize(
    "schema", [{"type": "object", **HARD}, nested(80)], ids=["many ways", "nested"]
)
def test_a_schema_that_vllm_does_not_follow_fails_its_own_answer_alone(
    vllm: Engine, schema: dict[str, Any]
) -> None:
    plain = GenerationRequest("tiny", (9, 8), 30)
    expected = Listener(vllm, plain).rest()
    form = vllm.json_form(json.dumps(schema))
    held = GenerationRequest("tiny", (5, 6), 40, form=form)
    failing, beside = Listener(vllm, held), Listener(vllm, plain)
    _, end = failing.rest()
    assert isinstance(end, Failed)
    assert end.param == "response_format"
    assert beside.rest() == expected
    assert vllm.is_ready


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "prefixItems": MULTIPLES},
        {"$ref": "#/$defs/d0", "$defs": {**CHAIN, "d3000": {}}},
    ],
    ids=["hangs", "breaks"],
)
def test_a_schema_that_hangs_or_breaks_the_library_never_reaches_vllm(
    vllm: Engine, schema: dict[str, Any]
) -> None:
    with pytest.raises(Refusal, match="too complex to be compiled"):
        vllm.json_form(json.dumps(schema))


def open_otherwise(
    served: Served, engine: Engine, change: Callable[[AdapterOrder], AdapterOrder]
) -> None:
    """Start a server with another adapter's order than that of the model that is loaded."""
    adapter = served.package / "adapter"
    language = load_language_model(
        served.base, served.base_folder, CHAT_TEMPLATE, "float32", adapter
    )
    weights = Weights(served.base_folder, served.base.digest, adapter)
    plan = plan_vllm(language, engine.specs, weights)
    assert plan.order.adapter is not None
    order = replace(plan.order, adapter=change(plan.order.adapter))
    open_vllm(replace(plan, order=order), language, engine.specs).close()


def test_a_server_that_answers_for_the_base_with_the_adapter_is_not_trusted(
    wide: Served, reference: Engine
) -> None:
    """What vLLM 0.32 does on a processor where both share a step and no place is empty."""
    with pytest.raises(ServingError, match="other probabilities"):
        open_otherwise(wide, reference, lambda order: replace(order, places=1))


def test_a_server_with_another_alpha_than_the_adapters_is_not_trusted(
    wide: Served, reference: Engine, tmp_path: Path
) -> None:
    """A wrong alpha gives wrong answers and no error."""
    other = tmp_path / "adapter"
    shutil.copytree(wide.package / "adapter", other)
    config = other / "adapter_config.json"
    text = config.read_text(encoding="utf-8")
    assert '"lora_alpha": 8' in text
    write_text(config, text.replace('"lora_alpha": 8', '"lora_alpha": 4'))
    with pytest.raises(ServingError, match="other probabilities"):
        open_otherwise(wide, reference, lambda order: replace(order, folder=other))
