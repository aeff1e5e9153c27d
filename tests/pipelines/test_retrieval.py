"""The rows before a prompt are training rows that resemble it, and as many as fit."""

import math
from pathlib import Path

import pytest

from core.errors import DamagedFile, IncompleteEvidence, UnusableRow
from core.value import FileDigest
from pipelines import layout
from pipelines.models.answers import Identity, Places
from pipelines.models.language_model import LanguageModel, load_language_model
from pipelines.models.resumed import Resumed
from pipelines.models.retrieval import (
    Index,
    Retriever,
    as_messages,
    best_count,
    choose_count,
    record_retrieved,
    retrieve,
)
from pipelines.stages.prompt_baselines import Questions, answer_by_retrieval
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.dataset import Message, Prompt, Row, write_rows
from pipelines.values.evidence import Completions
from pipelines.values.params import load_params
from tests.support import trials
from tests.support.tiny import CHAT_TEMPLATE, CONTEXT_TOKENS

PARAMS = load_params(trials.PARAMS)
GENERATION = PARAMS.generation.model_copy(update={"max_new_tokens": 8})


def row(number: int, prompt: str, completion: str = "ok") -> Row:
    return Row(
        id=f"row-{number}",
        number=number,
        messages=(Message(role="user", content=prompt),),
        completion=completion,
        group=f"group-{number}",
    )


def asked(text: str) -> tuple[Message, ...]:
    return (Message(role="user", content=text),)


def prompt(text: str) -> Prompt:
    return Prompt(id="asked", messages=asked(text), references=("ok",), group="g")


def index_of(folder: Path, rows: list[Row]) -> Index:
    write_rows(folder / "train.jsonl", rows)
    return Index.of(FileDigest.of(folder / "train.jsonl"))


TRAIN = [
    row(1, "extract an archive with tar", "tar xf a.tar"),
    row(2, "list the files of a folder", "ls"),
    row(3, "pack a folder into an archive with tar", "tar cf a.tar d"),
    row(4, "ファイルを一覧表示する", "ls"),
]


@pytest.fixture(scope="module")
def language(tiny: Path, manifest: BaseModelManifest) -> LanguageModel:
    return load_language_model(manifest, tiny, CHAT_TEMPLATE, "float32")


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("Extract the ARCHIVE, with tar!", 1),
        ("which FILES are in this folder", 2),
        # Scripts without spaces are compared character by character.
        ("一覧を表示して", 4),
    ],
)
def test_the_most_similar_row_comes_first(
    tmp_path: Path, text: str, first: int
) -> None:
    found = index_of(tmp_path, TRAIN).search(asked(text), 2)
    assert found[0].number == first
    assert len(found) == 2


@pytest.mark.parametrize("text", ["", "?!", "zebra"])
def test_where_no_row_is_similar_the_order_of_the_data_decides(
    tmp_path: Path, text: str
) -> None:
    found = index_of(tmp_path, TRAIN).search(asked(text), 3)
    assert [each.number for each in found] == [1, 2, 3]


def test_equally_similar_rows_keep_the_order_of_the_data(tmp_path: Path) -> None:
    rows = [row(number, "the same words") for number in range(1, 60)]
    found = index_of(tmp_path, rows).search(asked("the same words"), 20)
    assert [each.number for each in found] == list(range(1, 21))


def test_rows_without_words_are_found_all_the_same(tmp_path: Path) -> None:
    index = index_of(tmp_path, [row(1, "?!"), row(2, "...")])
    assert [each.number for each in index.search(asked("a word"), 5)] == [1, 2]


def test_a_system_message_makes_no_row_similar(tmp_path: Path) -> None:
    system = Message(role="system", content="zebra zebra zebra")
    rows = [row(1, "list files"), row(2, "zebra")]
    found = index_of(tmp_path, rows).search((system, *asked("list")), 1)
    assert found[0].number == 1


def test_an_index_of_other_bytes_than_were_admitted_is_refused(tmp_path: Path) -> None:
    write_rows(tmp_path / "train.jsonl", TRAIN)
    digest = FileDigest.of(tmp_path / "train.jsonl")
    write_rows(tmp_path / "train.jsonl", TRAIN[:2])
    with pytest.raises(DamagedFile):
        Index.of(digest)


def test_the_most_similar_row_stands_nearest_to_the_question(tmp_path: Path) -> None:
    found = index_of(tmp_path, TRAIN).search(asked("extract with tar"), 2)
    messages = as_messages(found)
    assert [message.role for message in messages] == ["user", "assistant"] * 2
    assert messages[-1].content == "tar xf a.tar"


def test_what_does_not_fit_is_left_out_from_the_least_similar_on(
    tmp_path: Path, language: LanguageModel
) -> None:
    # One token a byte: two of these do not fit into the context, one does.
    long = "x" * (CONTEXT_TOKENS // 2)
    rows = [row(1, f"pack {long}"), row(2, f"pack it now {long}")]
    retriever = Retriever(index_of(tmp_path, rows), language, 2)
    found = retriever.before(prompt("pack it now"), GENERATION)
    assert [each.number for each in found] == [2]


def test_a_prompt_beside_which_nothing_fits_is_asked_bare(
    tmp_path: Path, language: LanguageModel
) -> None:
    rows = [row(1, "pack " + "x" * CONTEXT_TOKENS)]
    retriever = Retriever(index_of(tmp_path, rows), language, 1)
    assert retriever.before(prompt("pack"), GENERATION) == []
    assert as_messages([]) == ()


def test_the_number_of_examples_is_chosen_on_dev_rows(
    tmp_path: Path, language: LanguageModel
) -> None:
    index = index_of(tmp_path, TRAIN)
    few_shot = PARAMS.few_shot.model_copy(update={"examples": 8, "draws": 4})
    asked = Resumed(language, "dev", "0" * 64)
    losses = choose_count(index, asked, [row(9, "unpack with tar")], few_shot)
    # Eight are more than there are; 4, 2 and 1 are left.
    assert list(losses) == [1, 2, 4]
    assert all(loss > 0 for loss in losses.values())
    assert len(set(losses.values())) == 3


def test_more_draws_than_halves_are_not_tried(
    tmp_path: Path, language: LanguageModel
) -> None:
    few_shot = PARAMS.few_shot.model_copy(update={"examples": 1, "draws": 5})
    asked = Resumed(language, "dev", "0" * 64)
    losses = choose_count(index_of(tmp_path, TRAIN), asked, TRAIN[:1], few_shot)
    assert list(losses) == [1]


def test_without_dev_rows_no_number_is_chosen(
    tmp_path: Path, language: LanguageModel
) -> None:
    asked = Resumed(language, "dev", "0" * 64)
    with pytest.raises(UnusableRow, match="no dev row"):
        choose_count(index_of(tmp_path, TRAIN), asked, [], PARAMS.few_shot)


def test_the_lowest_loss_wins_and_fewer_examples_of_equal_ones() -> None:
    assert best_count({8: 1.0, 4: 0.5, 2: 0.7}) == 4
    assert best_count({8: 0.5, 4: 0.5}) == 4


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_dev_loss_that_is_no_number_chooses_nothing(loss: float) -> None:
    with pytest.raises(IncompleteEvidence, match="not a number"):
        best_count({8: loss, 4: 0.5})


def test_the_record_names_rows_and_no_texts(
    tmp_path: Path, language: LanguageModel
) -> None:
    retriever = Retriever(index_of(tmp_path, TRAIN), language, 2)
    found = retrieve(retriever, [prompt("extract with tar")], GENERATION)
    record = record_retrieved(retriever, {2: 0.5}, found)
    assert record.found == {"asked": ("row-3/3", "row-1/1")}
    assert record.train_sha256 == FileDigest.of(tmp_path / "train.jsonl").sha256
    assert record.method.startswith("bm25s|")
    assert "archive" not in record.model_dump_json()


def test_the_base_answers_after_other_rows_for_each_prompt_twice_the_same(
    tmp_path: Path,
    language: LanguageModel,
    manifest: BaseModelManifest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    listing = prompt("list files").model_copy(update={"id": "listing"})
    prompts = [listing, prompt("extract with tar")]
    retriever = Retriever(index_of(tmp_path, TRAIN), language, 1)
    questions = Questions(prompts, GENERATION, Places(layout.PROMPT_BASELINES))
    record = answer_by_retrieval(manifest, retriever, {1: 0.5}, questions)
    assert record.found == {"listing": ("row-2/2",), "asked": ("row-1/1",)}
    path = layout.PROMPT_BASELINES / "retrieval.json"
    first = Completions.read(path)
    assert first.rows == 2
    assert first.spec.adapter_sha256 is None
    assert first.prompt_prefix_sha256 == record.content_sha256()
    answer_by_retrieval(manifest, retriever, {1: 0.5}, questions)
    assert Completions.read(path) == first


def test_a_prompt_that_nothing_was_looked_for_is_no_prompt_without_examples(
    manifest: BaseModelManifest,
) -> None:
    identity = Identity(
        system="retrieval", base=manifest, retrieved={}, retrieved_sha256="0"
    )
    with pytest.raises(KeyError):
        identity.before(prompt("list"))
