"""Rows to score, computed by the engine that serves: the same answers and losses, or none."""

import math
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from core.errors import IncompleteEvidence, IncompleteGeneration, UnusableBaseModel
from pipelines.engines import (
    Cancel,
    Deliver,
    Event,
    Failed,
    Finished,
    GenerationRequest,
    Piece,
    PromptScores,
    TokenScore,
)
from pipelines.engines.engine_rows import EngineRows
from pipelines.engines.scored_model import check_takes, open_scored_model
from pipelines.models.answers import Identity, Places, answer
from pipelines.models.asked_rows import Generated, InMemory, Sampling
from pipelines.models.comparator_bases import PlacedBase
from pipelines.models.language_model import (
    LanguageModel,
    generate,
    measure_completion_losses,
)
from pipelines.models.resumed import Resumed
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.dataset import Message, Prompt
from pipelines.values.params import GenerationParams
from tests.support.tiny import CHAT_TEMPLATE, make_tiny_adapter, tiny_manifest
from tests.support.waiting import wait_until
from tests.support.wide_bases import WIDE_BASES

PARAMS = GenerationParams(max_new_tokens=12, batch_size=4, precision="float32", seed=0)
IN_OPENVINO = PARAMS.model_copy(update={"engine": "openvino"})
ROOT = Path(__file__).parents[2]
ASKED = [
    Prompt(
        id=f"prompt-{number}",
        messages=(Message(role="user", content="ask " * (1 + number)),),
        references=("yes", f"no {number}"),
        group="g",
    )
    for number in range(5)
]
QUESTIONS = (
    "list files",
    "copy",
    "Who are you?",
    "stop the server now",
    "a",
    "mount it",
)


@pytest.fixture(scope="module")
def base(tiny: Path, manifest: BaseModelManifest) -> PlacedBase:
    return PlacedBase(manifest, tiny, CHAT_TEMPLATE)


@pytest.fixture(scope="module")
def adapter(base: PlacedBase, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapter") / "adapter"
    make_tiny_adapter(base.folder, base.manifest, folder)
    return folder


@pytest.fixture(scope="module")
def plain(base: PlacedBase, adapter: Path) -> Iterator[LanguageModel]:
    with open_scored_model(base, PARAMS, adapter) as language:
        yield language


@pytest.fixture(scope="module")
def in_openvino(base: PlacedBase, adapter: Path) -> Iterator[LanguageModel]:
    with open_scored_model(base, IN_OPENVINO, adapter) as language:
        yield language


def prompts(language: LanguageModel) -> list[list[int]]:
    encode = language.encoder.prompt_ids
    return [encode([Message(role="user", content=text)]) for text in QUESTIONS]


def rows(language: LanguageModel) -> list[tuple[list[int], list[int]]]:
    """Some that begin alike, so that one may begin with what another one computed."""
    encode = language.encoder.encode_example
    return [
        encode([Message(role="user", content=text)], reference)
        for text in QUESTIONS
        for reference in ("yes", f"{text} {text}", "no")
    ]


def answers(
    language: LanguageModel, sampling: Sampling | None = None
) -> tuple[Generated, ...]:
    return generate(
        language,
        prompts(language),
        max_new_tokens=PARAMS.max_new_tokens,
        batch_size=PARAMS.batch_size,
        sampling=sampling,
    )


@pytest.mark.ci
def test_openvino_answers_and_measures_what_transformers_does(
    plain: LanguageModel, in_openvino: LanguageModel
) -> None:
    assert in_openvino.computed_by[0] == "openvino"
    assert answers(in_openvino) == answers(plain)
    expected = measure_completion_losses(plain, rows(plain), batch_size=4)
    measured = measure_completion_losses(in_openvino, rows(plain), batch_size=4)
    for nats, other in zip(measured, expected, strict=True):
        assert math.isclose(nats, other, rel_tol=1e-4)


@pytest.mark.ci
def test_a_base_without_an_adapter_is_another_model(
    base: PlacedBase, in_openvino: LanguageModel
) -> None:
    with open_scored_model(base, PARAMS) as language:
        expected = answers(language)
    with open_scored_model(base, IN_OPENVINO) as language:
        assert answers(language) == expected
    assert answers(in_openvino) != expected


@pytest.mark.ci
def test_a_seed_draws_the_same_answers_in_whatever_company(
    in_openvino: LanguageModel,
) -> None:
    drawn = answers(in_openvino, Sampling(0.9, 1))
    assert answers(in_openvino, Sampling(0.9, 1)) == drawn
    assert answers(in_openvino, Sampling(0.9, 2)) != drawn
    assert len(set(drawn)) > 1
    # The last prompt alone, in its own place.
    kept: InMemory[Generated] = InMemory()
    kept.add(range(5), drawn[:5])
    assert in_openvino.engine is not None
    in_openvino.engine.answer_into(
        kept,
        prompts(in_openvino),
        max_new_tokens=PARAMS.max_new_tokens,
        sampling=Sampling(0.9, 1),
        advance=lambda _: None,
    )
    assert kept.in_order(6) == drawn


@pytest.mark.ci
def test_an_engine_is_closed_when_its_model_is_given_back(base: PlacedBase) -> None:
    with open_scored_model(base, IN_OPENVINO) as language:
        assert isinstance(language.engine, EngineRows)
        engine = language.engine.engine
        assert engine.is_ready
    assert not engine.is_ready
    with pytest.raises(IncompleteGeneration, match="openvino"):
        answers(language)


def test_no_other_engine_stands_in_for_one_that_does_not_take_the_base(
    base: PlacedBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What an import finds where the library is not installed.
    monkeypatch.setitem(sys.modules, "openvino", None)
    with (
        pytest.raises(UnusableBaseModel, match="openvino is not installed here: `pip"),
        open_scored_model(base, IN_OPENVINO),
    ):
        pass


@pytest.mark.ci
def test_a_base_that_the_engine_does_not_take_is_refused_with_the_reason(
    base: PlacedBase, tmp_path: Path
) -> None:
    check_takes(base, PARAMS)
    check_takes(base, IN_OPENVINO)
    with_window = WIDE_BASES[-1].make(tmp_path / "base")
    home = tmp_path / "home"
    other = PlacedBase(tiny_manifest(with_window, home), with_window, CHAT_TEMPLATE)
    check_takes(other, PARAMS)
    with pytest.raises(
        UnusableBaseModel, match="openvino: rows of this base cannot sh"
    ):
        check_takes(other, IN_OPENVINO)


@pytest.mark.ci
def test_what_was_kept_of_one_engine_is_of_no_use_to_another(
    base: PlacedBase,
    plain: LanguageModel,
    in_openvino: LanguageModel,
    tmp_path: Path,
) -> None:
    identity = Identity(system="base", base=base.manifest)

    def headers(language: LanguageModel, params: GenerationParams) -> set[str]:
        asked = Resumed(language, "adapter", "weights", tmp_path)
        ids = prompts(language)
        asked.answers("names", ids, max_new_tokens=4, batch_size=4)
        asked.losses("pairs", rows(language), batch_size=4)
        places = Places(tmp_path / params.engine, tmp_path)
        record = answer(identity, language, ASKED, params, places)
        assert record.spec.engine == params.engine
        found = set()
        for path in tmp_path.iterdir():
            if path.is_file():
                found.add(f"{path.name} {path.read_text().splitlines()[0]}")
        return found

    first = headers(plain, PARAMS)
    assert len(first) == 4
    assert not first & headers(in_openvino, IN_OPENVINO)
    # A name that is not what computed is refused.
    places = Places(tmp_path / "other")
    with pytest.raises(IncompleteGeneration, match="would be answered by transformers"):
        answer(identity, plain, ASKED, IN_OPENVINO, places)


SCRIPT = """
import sys
from pathlib import Path
from tests.pipelines.test_scored_in_engines import answer_all

answer_all(*map(Path, sys.argv[1:]))
"""


def answer_all(base_folder: Path, home: Path, kept: Path, out: Path) -> list[bytes]:
    """What OpenVINO answers and measures of forty prompts, as files."""
    base = PlacedBase(tiny_manifest(base_folder, home), base_folder, CHAT_TEMPLATE)
    asked = [ASKED[0].model_copy(update={"id": f"{number}"}) for number in range(40)]
    params = IN_OPENVINO.model_copy(update={"max_new_tokens": 200})
    drawn = params.model_copy(update={"temperature": 0.9, "samples": 2})
    identity = Identity(system="base", base=base.manifest)
    with open_scored_model(base, drawn) as language:
        answer(identity, language, asked, drawn, Places(out, kept))
    names = ("answers", "losses", "samples")
    return [(out / f"base.{name}.jsonl").read_bytes() for name in names]


@pytest.mark.ci
def test_an_evaluation_that_is_killed_goes_on_and_ends_with_the_same_answers(
    tiny: Path, tmp_path: Path
) -> None:
    whole = answer_all(tiny, tmp_path / "home", tmp_path / "kept", tmp_path / "whole")
    killed = tmp_path / "killed"
    path = killed / "base.sample-0"
    folders = [tiny, tmp_path / "home", killed, tmp_path / "out"]
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *map(str, folders)], cwd=ROOT
    )
    try:
        # As soon as an answer is there that was drawn.
        wait_until(
            lambda: (
                process.poll() is not None
                or (path.is_file() and path.read_bytes().count(b"\n") > 1)
            )
        )
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert path.read_bytes().count(b"\n") > 1
    again = answer_all(tiny, tmp_path / "home", killed, tmp_path / "again")
    # A loss may round otherwise in other company.
    assert [again[0], again[2]] == [whole[0], whole[2]]


@dataclass
class Scripted:
    """An engine that delivers what a test wrote down for each request, in turn."""

    said: Sequence[Sequence[Event]]
    is_ready: bool = True
    asked: list[GenerationRequest] = field(default_factory=list)
    cancelled: int = 0

    def submit(self, request: GenerationRequest, deliver: Deliver) -> Cancel:
        events = self.said[len(self.asked)]
        self.asked.append(request)
        for event in events:
            deliver(event)
        return self._cancel

    def _cancel(self) -> None:
        self.cancelled += 1

    @property
    def rows(self) -> EngineRows:
        engine: Any = self
        return EngineRows("openvino", "1", engine, at_once=2)


def token(number: int, logprob: float | None = -0.5) -> TokenScore:
    return TokenScore(number, "x", logprob)


def ask_scripted(scripted: Scripted, prompts: Sequence[list[int]]) -> InMemory[Any]:
    kept: InMemory[Generated] = InMemory()
    scripted.rows.answer_into(
        kept, prompts, max_new_tokens=3, sampling=None, advance=lambda _: None
    )
    return kept


def measure_scripted(scripted: Scripted) -> float:
    kept: InMemory[float] = InMemory()
    rows = [([1, 2], [3, 4])]
    scripted.rows.measure_into(kept, rows, advance=lambda _: None)
    return kept.in_order(1)[0]


WHOLE = (Piece("xx", (token(7), token(8))), Finished("stop", 2))


def test_the_longest_is_asked_first_and_each_answer_is_kept_in_its_own_place() -> None:
    cut = (Piece("x", (token(5),)), Finished("length", 1))
    scripted = Scripted([cut, WHOLE, WHOLE])
    kept = ask_scripted(scripted, [[1], [1, 2], [1]])
    ended = Generated((7, 8), ended=True)
    assert kept.in_order(3) == (ended, Generated((5,), ended=False), ended)
    assert [len(request.prompt) for request in scripted.asked] == [2, 1, 1]


def test_what_is_kept_is_not_asked_again() -> None:
    scripted = Scripted([WHOLE])
    there = Generated((9,), ended=False)
    kept: InMemory[Generated] = InMemory()
    kept.add([0, 2], [there, there])
    done: list[int] = []
    scripted.rows.answer_into(
        kept, [[1], [2], [3]], max_new_tokens=3, sampling=None, advance=done.append
    )
    assert kept.in_order(3) == (there, Generated((7, 8), ended=True), there)
    assert [request.prompt for request in scripted.asked] == [(2,)]
    assert sum(done) == 3


@pytest.mark.parametrize(
    "said",
    [
        (Failed("The engine stopped in the middle of this answer."),),
        (Piece("x", (token(7),)), Finished("cancelled", 1)),
        # A token without its number would be left out of the answer.
        (Piece("xx", (token(7),)), Finished("stop", 2)),
    ],
    ids=["failed", "cut off", "lacks a token"],
)
def test_no_answer_is_made_up_for_one_that_is_missing(said: Sequence[Event]) -> None:
    scripted = Scripted([WHOLE, said, WHOLE])
    with pytest.raises(IncompleteGeneration, match=r"engine openvino did not .*row 1"):
        ask_scripted(scripted, [[1], [1], [1]])
    # What ran beside it is not left running.
    assert scripted.cancelled == len(scripted.asked) - 2


def test_an_engine_that_has_ended_is_not_waited_for() -> None:
    scripted = Scripted([()], is_ready=False)
    with pytest.raises(IncompleteGeneration, match="it has ended"):
        ask_scripted(scripted, [[1]])


SCORED = PromptScores((token(3, -0.5), token(4, -1.5)))
NOTHING_MORE = Finished("length", 0)


def test_a_loss_is_that_of_the_completion() -> None:
    scripted = Scripted([(SCORED, NOTHING_MORE)])
    assert measure_scripted(scripted) == 2.0
    (request,) = scripted.asked
    assert request.prompt == (1, 2, 3, 4)
    assert (request.scores_from, request.max_tokens) == (2, 0)


@pytest.mark.parametrize(
    "said",
    [
        (Failed("The model computed logits that are not finite."),),
        (PromptScores((token(4),)), NOTHING_MORE),
        (PromptScores((token(3), token(9))), NOTHING_MORE),
        (PromptScores((token(3, None), token(4))), NOTHING_MORE),
        (NOTHING_MORE,),
    ],
    ids=["failed", "too few", "of another token", "no probability", "none"],
)
def test_no_loss_is_made_up_for_one_that_is_missing(said: Sequence[Event]) -> None:
    with pytest.raises(IncompleteEvidence, match="row 0"):
        measure_scripted(Scripted([said]))
