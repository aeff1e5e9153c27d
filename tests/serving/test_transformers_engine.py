"""The engine gives the answers that were scored to whoever still waits, and ends as it should.

With one place for answers, so that others wait; `test_batching.py` has many at once.
"""

import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from pipelines.engines import Engine, Failed, Finished, GenerationRequest, Piece
from pipelines.engines.refusal import Refusal
from pipelines.engines.transformers import TransformersEngine
from pipelines.models.batching import Batching
from pipelines.models.language_model import LanguageModel, generate, load_language_model
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.dataset import Message
from pipelines.values.serving_spec import ServingSpec
from serving.load import base_model_name
from tests.support.listening import Listener
from tests.support.running_engine import Served, stop_in
from tests.support.tiny import CHAT_TEMPLATE

QUESTION = (Message(role="user", content="How do I list files?"),)


@pytest.fixture(scope="module")
def roomy(served: Served) -> LanguageModel:
    """The tiny base with a context that takes half a minute to fill, at the least."""
    base = served.base.model_copy(update={"context_tokens": 20_000})
    return load_language_model(base, served.base_folder, CHAT_TEMPLATE, "float32")


@pytest.fixture(params=[Batching.SHARED_PREFIX, Batching.EQUAL_LENGTHS])
def slow(
    request: pytest.FixtureRequest, roomy: LanguageModel, served: Served
) -> Iterator[Engine]:
    """One answer at a time: in a step of its own, and by transformers' `generate`."""
    spec = ServingSpec.of(
        served.base,
        engine="transformers",
        engine_version="0",
        precision="float32",
        default_max_tokens=10,
    )
    language = replace(roomy, batching=request.param)
    engine = TransformersEngine(language, {"tiny": spec}, queue_length=2, rows=1)
    yield engine
    engine.close()


def answer(
    engine: Engine,
    model: str,
    *,
    max_tokens: int = 24,
    temperature: float = 0.0,
    stop: tuple[str, ...] = (),
    seed: int = 0,
) -> str:
    request = GenerationRequest(
        model,
        tuple(engine.prompt_ids(QUESTION, model)),
        max_tokens,
        temperature,
        stop=stop,
        seed=seed,
    )
    return Listener(engine, request).rest()[0]


@pytest.mark.parametrize("model", ["tuned", "tiny"])
def test_the_served_answer_is_the_scored_answer(
    engine: Engine, served: Served, model: str
) -> None:
    language = load_language_model(
        served.base,
        served.base_folder,
        CHAT_TEMPLATE,
        "float32",
        served.package / "adapter" if model == "tuned" else None,
    )
    scored = generate(
        language,
        [language.encoder.prompt_ids(QUESTION)],
        max_new_tokens=24,
        batch_size=1,
    )[0]
    assert answer(engine, model) == language.encoder.decode(scored.ids)


def test_adapter_and_base_answer_differently_and_neither_spoils_the_other(
    engine: Engine,
) -> None:
    first = [answer(engine, "tuned"), answer(engine, "tiny")]
    assert first[0] != first[1]
    assert [answer(engine, "tuned"), answer(engine, "tiny")] == first


def test_a_seed_repeats_a_sampled_answer_and_another_seed_changes_it(
    engine: Engine,
) -> None:
    answers = [
        answer(engine, "tuned", temperature=1.0, seed=seed) for seed in (1, 1, 2)
    ]
    assert answers[0] == answers[1] != answers[2]


def test_a_stop_string_ends_the_answer_and_is_left_out(engine: Engine) -> None:
    whole = answer(engine, "tuned", temperature=1.5, seed=5, max_tokens=60)
    stop = stop_in(whole)
    request = GenerationRequest(
        "tuned",
        tuple(engine.prompt_ids(QUESTION, "tuned")),
        60,
        1.5,
        stop=(stop,),
        seed=5,
    )
    text, end = Listener(engine, request).rest()
    assert text == whole[: whole.index(stop)]
    assert isinstance(end, Finished)
    assert end.reason == "stop"
    cut, shorter = (
        answer(
            engine,
            "tuned",
            temperature=1.5,
            seed=5,
            max_tokens=end.completion_tokens - less,
        )
        for less in (0, 1)
    )
    assert cut == text != shorter


def test_an_answer_that_is_cut_at_its_limit_says_so(engine: Engine) -> None:
    request = GenerationRequest("tiny", tuple(engine.prompt_ids(QUESTION, "tiny")), 7)
    assert Listener(engine, request).rest()[1] == Finished("length", 7)


def test_a_client_that_leaves_stops_its_answer_and_frees_the_engine(
    slow: Engine,
) -> None:
    left = Listener(slow, GenerationRequest("tiny", (1, 5, 6), 19_000))
    assert isinstance(left.first(), Piece)
    left.cancel()
    end = left.rest()[1]
    assert isinstance(end, Finished)
    assert end.reason == "cancelled"
    assert end.completion_tokens < 10_000
    assert Listener(slow, GenerationRequest("tiny", (1, 5, 6), 3)).rest()[
        1
    ] == Finished("length", 3)


def test_an_order_that_is_cancelled_in_the_queue_is_never_started(slow: Engine) -> None:
    running = Listener(slow, GenerationRequest("tiny", (1, 5, 6), 19_000))
    waiting = Listener(slow, GenerationRequest("tiny", (1, 5, 6), 19_000))
    waiting.cancel()
    running.first()
    running.cancel()
    assert waiting.rest() == ("", Finished("cancelled", 0))


def test_a_full_queue_refuses_at_once(slow: Engine) -> None:
    running = Listener(slow, GenerationRequest("tiny", (1, 5, 6), 19_000))
    running.first()
    waiting = [
        Listener(slow, GenerationRequest("tiny", (1, 5, 6), 1)) for _ in range(2)
    ]
    with pytest.raises(Refusal, match="busy") as refused:
        slow.submit(GenerationRequest("tiny", (1, 5, 6), 1), lambda _: None)
    assert refused.value.status == 503
    running.cancel()
    assert [listener.rest()[1] for listener in waiting] == [Finished("length", 1)] * 2


def test_closing_ends_what_runs_and_fails_what_waits(slow: Engine) -> None:
    running = Listener(slow, GenerationRequest("tiny", (1, 5, 6), 19_000))
    running.first()
    waiting = Listener(slow, GenerationRequest("tiny", (1, 5, 6), 1))
    slow.close()
    end = running.rest()[1]
    assert isinstance(end, Finished)
    assert end.reason == "cancelled"
    assert isinstance(waiting.rest()[1], Failed)
    assert not slow.is_ready
    with pytest.raises(Refusal, match="does not run"):
        slow.submit(GenerationRequest("tiny", (1, 5, 6), 1), lambda _: None)


def test_an_answer_that_fails_says_so_and_the_next_one_works(
    engine: Engine, capfd: pytest.CaptureFixture[str]
) -> None:
    outside_the_vocabulary = 10**6
    assert isinstance(
        Listener(
            engine, GenerationRequest("tiny", (outside_the_vocabulary,), 3)
        ).rest()[1],
        Failed,
    )
    assert "The engine failed on an answer of tiny" in capfd.readouterr().err
    assert answer(engine, "tiny", max_tokens=3)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_when_the_engines_thread_dies_nobody_is_left_waiting(slow: Engine) -> None:
    running = Listener(slow, GenerationRequest("tiny", (1, 5, 6), 19_000))
    running.first()
    orders = [
        Listener(slow, GenerationRequest("tiny", (1, 5, 6), "no number")),  # type: ignore[arg-type]
        Listener(slow, GenerationRequest("tiny", (1, 5, 6), 1)),
    ]
    running.cancel()
    assert all(isinstance(listener.rest()[1], Failed) for listener in orders)
    assert not slow.is_ready


def test_many_threads_at_once_get_each_their_own_answer(engine: Engine) -> None:
    expected = {model: answer(engine, model) for model in ("tuned", "tiny")}
    answers: list[tuple[str, str]] = []
    threads = [
        threading.Thread(
            target=lambda model=model: answers.append((model, answer(engine, model)))
        )
        for model in ("tuned", "tiny") * 5
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 10
    assert all(text == expected[model] for model, text in answers)


def test_the_fingerprint_changes_with_everything_that_changes_an_answer(
    served: Served,
) -> None:
    spec = ServingSpec.of(
        served.base,
        engine="transformers",
        engine_version="5",
        precision="float32",
        default_max_tokens=10,
    )
    others = [
        spec.model_copy(
            update={field: "other" if isinstance(setting, str | None) else 11}
        )
        for field, setting in spec
    ]
    assert (
        len({spec.fingerprint, *(other.fingerprint for other in others)})
        == len(others) + 1
    )


@pytest.mark.parametrize(
    ("base_id", "name"),
    [
        ("SmolLM2-135M-Instruct", "SmolLM2-135M-Instruct"),
        ("org/model", "model"),
        ("../..", "base"),
        ("a b/ü x/", "x"),
        ("x" * 300, "x" * 128),
    ],
)
def test_a_base_answers_under_a_name_that_is_no_path(
    served: Served, base_id: str, name: str
) -> None:
    base: BaseModelManifest = served.base.model_copy(update={"id": base_id})
    assert base_model_name(base) == name


def test_completion_mode_serves_a_base_without_a_template(served: Served) -> None:
    language = load_language_model(served.base, served.base_folder, None, "float32")
    spec = ServingSpec.of(
        served.base.model_copy(update={"chat_template_sha256": None}),
        engine="transformers",
        engine_version="5",
        precision="float32",
        default_max_tokens=10,
    )
    engine = TransformersEngine(language, {"tiny": spec})
    assert len(engine.prompt_ids(QUESTION, "tiny")) == len("How do I list files?\n")
    engine.close()
