"""A rating is an id and 1 or -1. Whatever else is in a body is refused in a sentence."""

import pytest

from pipelines.engines.refusal import Refusal
from serving.feedback_schema import parse_rating

ID = "chatcmpl-0123456789abcdef"


@pytest.mark.parametrize("score", [1, -1])
def test_a_rating_is_an_id_and_a_score(score: int) -> None:
    rating = parse_rating(b'{"id": "%s", "score": %d}' % (ID.encode(), score))
    assert (rating.id, rating.score) == (ID, score)
    assert rating.is_negative is (score == -1)


@pytest.mark.parametrize(
    ("shown", "score"),
    [
        ("0", "0"),
        ("2", "2"),
        ("-2", "-2"),
        ("true", "true"),
        ("false", "false"),
        ("1.0", "1.0"),
        ("-0.5", "-0.5"),
        ('"1"', '"1"'),
        ("null", "null"),
        ("NaN", "NaN"),
        ("Infinity", "Infinity"),
        ("-Infinity", "-Infinity"),
        ("a list of 1", "[1]"),
        ("a number that is too large", "9" * 100),
    ],
)
def test_every_other_score_is_refused_and_shown(shown: str, score: str) -> None:
    body = f'{{"id": "{ID}", "score": {score}}}'
    with pytest.raises(Refusal) as refused:
        parse_rating(body.encode())
    said = f"score is {shown}: send 1 for a good answer, -1 for a bad one."
    assert str(refused.value) == said
    assert (refused.value.status, refused.value.param) == (400, "score")


@pytest.mark.parametrize(
    "answer_id",
    ["", "x" * 129, "a b", "a/../b", "a\\n", "\\u0000", "ä", "${x}"],
)
def test_what_no_engine_calls_an_answer_is_no_id(answer_id: str) -> None:
    body = f'{{"id": "{answer_id}", "score": 1}}'
    with pytest.raises(Refusal, match="send the id of the answer") as refused:
        parse_rating(body.encode())
    assert (refused.value.status, refused.value.param) == (400, "id")


@pytest.mark.parametrize("field", ["comment", "user", "Score", "model"])
def test_there_is_no_other_field_so_that_no_text_is_kept(field: str) -> None:
    body = f'{{"id": "{ID}", "score": 1, "{field}": "It was rude."}}'
    with pytest.raises(Refusal) as refused:
        parse_rating(body.encode())
    assert str(refused.value) == f"{field} is not served here: leave it out."


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "send a JSON object with id and score"),
        (b"{", "send a JSON object with id and score"),
        (b"[]", "send a JSON object with id and score"),
        (b"null", "send a JSON object with id and score"),
        (b"1", "send a JSON object with id and score"),
        (b"\xff", "send a JSON object with id and score"),
        (b"{}", "id is missing: send the id"),
        (b'{"id": "a"}', "score is missing: send 1"),
        (b'{"id": 3, "score": 1}', "id is 3: send the id"),
        (b'{"id": "\\ud800", "score": 1}', "send a JSON object with id and score"),
    ],
)
def test_a_body_that_is_no_rating_is_refused(body: bytes, said: str) -> None:
    with pytest.raises(Refusal, match=said) as refused:
        parse_rating(body)
    assert refused.value.status == 400
