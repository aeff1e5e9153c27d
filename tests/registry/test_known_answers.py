"""Known answers are the same few each time, and none at all is damage, never a pass."""

from pathlib import Path

import pytest

from core.errors import DamagedFile, IncompleteGeneration
from pipelines.scoring.evidence_file import read_predictions, write_evidence
from pipelines.values.dataset import (
    Message,
    Prompt,
    Row,
    group_prompts,
    prompt_id,
    write_rows,
)
from registry.release.known_answers import (
    COUNT,
    EVIDENCE,
    FILE,
    HELD_OUT,
    choose_known_answers,
    draw_answers,
    drawable_prompts,
    known_answer_differences,
    read_known_answers,
    write_known_answers,
)
from tests.support import trials

PROMPTS = group_prompts(trials.rows())
TEXTS = {prompt.id: f"answer to {prompt.id}" for prompt in PROMPTS}


def test_the_choice_does_not_hang_on_the_order_of_the_prompts() -> None:
    known = choose_known_answers(PROMPTS, TEXTS, 24)
    assert known == choose_known_answers(PROMPTS[::-1], TEXTS, 24)
    assert len(known) == COUNT
    by_messages = {prompt.messages: prompt for prompt in PROMPTS}
    assert all(each.text == TEXTS[by_messages[each.messages].id] for each in known)


def test_few_prompts_are_all_known() -> None:
    assert len(choose_known_answers(PROMPTS[:3], TEXTS, 24)) == 3


@pytest.mark.parametrize(("prompts", "texts"), [(PROMPTS, {}), ((), TEXTS)])
def test_a_prompt_without_its_answer_is_not_filled_in(
    prompts: tuple[Prompt, ...], texts: dict[str, str]
) -> None:
    with pytest.raises(IncompleteGeneration, match="no scored answer"):
        choose_known_answers(prompts, texts, 24)


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    known = choose_known_answers(PROMPTS, dict.fromkeys(TEXTS, "ü\n\u2028 \u0001"), 24)
    write_known_answers(tmp_path / "known.jsonl", known)
    assert read_known_answers(tmp_path / "known.jsonl") == known


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}\n",
        b"nonsense\n",
        b"\xff\n",
        b"[" * 100_000,
        b'{"messages": [], "text": "a", "max_tokens": 1}\n',
        b'{"messages": [{"role": "user", "content": "a"}], "text": "a", "max_tokens": 0}\n',
    ],
)
def test_a_file_without_known_answers_is_damage(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "known.jsonl").write_bytes(content)
    with pytest.raises(DamagedFile, match=r"known\.jsonl"):
        read_known_answers(tmp_path / "known.jsonl")


def test_a_missing_file_is_damage(tmp_path: Path) -> None:
    with pytest.raises(DamagedFile, match="holds no known answers"):
        read_known_answers(tmp_path / "none.jsonl")


ROWS = trials.rows()


def packed(folder: Path, rows: tuple[Row, ...] = ROWS) -> Path:
    """Evidence of the rows' prompts, with rows and known answers, as a package holds them."""
    found = trials.evidence()
    write_evidence(folder / EVIDENCE, found)
    texts = {
        scored.row.prompt_id: scored.row.prediction for scored in found.rows["adapter"]
    }
    write_rows(folder / HELD_OUT, rows)
    write_known_answers(folder / FILE, choose_known_answers(PROMPTS, texts, 48))
    return folder


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packed(tmp_path_factory.mktemp("package"))


def test_what_is_drawn_is_by_chance_and_carries_the_scored_answer(
    package: Path,
) -> None:
    texts = read_predictions(package / EVIDENCE)
    draws = [draw_answers(package, 20, 48) for _ in range(5)]
    assert all(
        each.text == texts[prompt_id(each.messages)]
        for drawn in draws
        for each in drawn
    )
    assert all(len(set(drawn)) == 20 for drawn in draws)
    assert (
        len({frozenset(drawn) for drawn in draws}) == 5
    )  # the same one twice: less than once in 10 to the 15th


def test_no_more_is_drawn_than_there_is(package: Path) -> None:
    assert len(draw_answers(package, 10_000, 48)) == len(PROMPTS)


def test_a_package_from_before_there_were_prompts_gives_none(tmp_path: Path) -> None:
    assert draw_answers(tmp_path, 20, 48) == ()
    assert drawable_prompts(tmp_path) == ()


EASY = ROWS[0].model_copy(
    update={"messages": (Message(role="user", content="say yes"),)}
)


@pytest.mark.parametrize(
    "rows",
    [ROWS[1:], (*ROWS, EASY), (EASY, *ROWS[1:]), ()],
    ids=["one less", "one more", "another one", "none"],
)
def test_rows_that_are_not_those_of_the_evidence_are_damage(
    tmp_path: Path, rows: tuple[Row, ...]
) -> None:
    with pytest.raises(DamagedFile, match="does not hold the prompts of the evidence"):
        drawable_prompts(packed(tmp_path, rows))


def test_a_file_that_holds_no_rows_is_damage(tmp_path: Path) -> None:
    (packed(tmp_path) / HELD_OUT).write_text("{}\n", encoding="utf-8")
    with pytest.raises(DamagedFile, match="holds a line that is no row"):
        drawable_prompts(tmp_path)


def test_known_answers_of_the_evidence_do_not_differ_from_it(package: Path) -> None:
    assert known_answer_differences(package, 48) == ()
    assert len(known_answer_differences(package, 47)) == COUNT


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        (
            {"text": "made from the noise itself"},
            "known answer 1 is not what was scored",
        ),
        ({"max_tokens": 1}, "known answer 1 is not what was scored"),
        (
            {"messages": (Message(role="user", content="other"),)},
            "known answer 1 is to a prompt that was not scored",
        ),
    ],
)
def test_a_known_answer_that_was_not_scored_is_told(
    tmp_path: Path, change: dict[str, object], fact: str
) -> None:
    first, *others = read_known_answers(packed(tmp_path) / FILE)
    write_known_answers(tmp_path / FILE, (first.model_copy(update=change), *others))
    assert known_answer_differences(tmp_path, 48) == (fact,)
