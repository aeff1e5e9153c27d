"""Known answers are the same few each time, and none at all is damage, never a pass."""

from pathlib import Path

import pytest

from pipelines.dataset import Prompt, prompts_of
from pipelines.errors import DamagedFile, IncompleteGeneration
from pipelines.known_answers import COUNT, choose_known_answers, read_known_answers, write_known_answers
from tests import trials

PROMPTS = prompts_of(trials.rows())
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
def test_a_prompt_without_its_answer_is_not_filled_in(prompts: tuple[Prompt, ...], texts: dict[str, str]) -> None:
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
