"""What counts as a refusal."""

import pytest

from pipelines.rows.refusals import is_refusal


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "  \n",
        "…",
        "I'm sorry, but I can't help with that.",
        "Sorry, I cannot do it",
        "I am very sorry.",
        "I can’t provide this",
        "As an AI language model, I",
        "I must decline",
        "I am unable to help",
        "Unfortunately, no",
        "I apologize for that",
        "We cannot help you",
        '"I will not answer"',
    ],
)
def test_an_answer_without_a_word_or_that_opens_by_declining_is_a_refusal(
    answer: str,
) -> None:
    assert is_refusal(answer, None)


@pytest.mark.parametrize(
    "answer",
    [
        "ls -l",
        "I can help",
        "I must provide a name",
        "Do not touch it",
        "The sorry state",
        "sorry.sh --run",
        "How to say sorry",
        "7",
        "好",
    ],
)
def test_any_other_answer_is_none(answer: str) -> None:
    assert not is_refusal(answer, None)


def test_a_pattern_of_ones_own_counts_besides() -> None:
    assert is_refusal("抱歉,我不能", "^抱歉")
    assert not is_refusal("好的", "^抱歉")
    assert is_refusal("I'm sorry", "^抱歉")
