"""Streamed text is the whole text, in order, with nothing lost or shown too early."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.engines.text_stream import StopStrings, TokenCount
from pipelines.models.chat import ChatEncoder
from pipelines.models.incremental_text import IncrementalText
from tests.support.tiny import CHAT_TEMPLATE, make_tiny_base


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> ChatEncoder:
    return ChatEncoder.load(
        make_tiny_base(tmp_path_factory.mktemp("tiny")), CHAT_TEMPLATE
    )


def tokens(encoder: ChatEncoder, text: str) -> list[int]:
    """The tokens of a text and the end of a turn, whatever the text holds."""
    encoding = encoder.tokenizer(text, split_special_tokens=True)
    return [*encoding["input_ids"], encoder.end_id]


def streamed(encoder: ChatEncoder, ids: list[int]) -> list[str]:
    text = IncrementalText(encoder.decode_together)
    return [*(text.push(token) for token in ids), text.flush()]


@given(text=st.text(max_size=60))
def test_pieces_join_to_the_text_whatever_its_characters(
    encoder: ChatEncoder, text: str
) -> None:
    ids = tokens(encoder, text)[:-1]
    assert "".join(streamed(encoder, ids)) == text


def test_a_character_is_given_once_its_last_byte_is_there(encoder: ChatEncoder) -> None:
    pieces = streamed(encoder, tokens(encoder, "a好")[:-1])
    assert pieces == ["a", "", "", "好", ""]


def test_an_unfinished_character_at_the_end_is_shown_as_the_whole_decoding_shows_it(
    encoder: ChatEncoder,
) -> None:
    ids = tokens(encoder, "a好")[:-2]
    assert "".join(streamed(encoder, ids)) == encoder.decode(ids) == "a\ufffd"


def test_control_tokens_in_the_middle_are_left_out(encoder: ChatEncoder) -> None:
    assert (
        "".join(streamed(encoder, [*tokens(encoder, "ab"), *tokens(encoder, "c")]))
        == "abc"
    )


def test_the_work_for_a_token_does_not_grow_with_the_answer() -> None:
    longest = 0

    def decode(ids: Sequence[int]) -> str:
        nonlocal longest
        longest = max(longest, len(ids))
        return "x" * len(ids)

    text = IncrementalText(decode)
    assert "".join(text.push(token) for token in range(5000)) == "x" * 5000
    assert longest == 2


def test_tokens_that_never_make_a_character_do_not_pile_up() -> None:
    longest = 0

    def decode(ids: Sequence[int]) -> str:
        nonlocal longest
        longest = max(longest, len(ids))
        return "\ufffd" * len(ids)

    text = IncrementalText(decode)
    assert (
        "".join([*(text.push(token) for token in range(1000)), text.flush()])
        == "\ufffd" * 1000
    )
    assert longest <= 128


def cut(stops: list[str], pieces: list[str]) -> tuple[str, bool]:
    filtered = StopStrings(stops)
    return "".join(
        [*(filtered.push(piece) for piece in pieces), filtered.flush()]
    ), filtered.is_stopped


@pytest.mark.parametrize(
    ("stops", "pieces", "kept", "is_stopped"),
    [
        (["STOP"], ["one ST", "OP two"], "one ", True),
        (["STOP"], ["one ST", "ILL two"], "one STILL two", False),
        (["STOP"], ["one ST"], "one ST", False),
        (["b", "abc"], ["a", "b", "c"], "a", True),
        (["\n\n"], ["line\n", "\nnext"], "line", True),
        (["aab"], ["aa", "ab"], "a", True),
        (["x"], ["x"], "", True),
        ([], ["all", " of it"], "all of it", False),
    ],
)
def test_a_text_ends_at_the_first_stop_string(
    stops: list[str], pieces: list[str], kept: str, is_stopped: bool
) -> None:
    assert cut(stops, pieces) == (kept, is_stopped)


@given(
    text=st.text("ab", max_size=30),
    stops=st.lists(st.text("ab", min_size=1, max_size=4), max_size=3),
)
def test_stopping_does_not_depend_on_how_the_text_was_cut(
    text: str, stops: list[str]
) -> None:
    places = [text.find(stop) for stop in stops if stop in text]
    kept, is_stopped = cut(stops, list(text))
    assert is_stopped == bool(places)
    # Letter by letter the stop string that ends first wins, which begins no later than it would be
    # found in the whole text.
    assert text.startswith(kept)
    assert not any(stop in kept for stop in stops)
    assert is_stopped or kept == text


@pytest.mark.parametrize(
    ("texts", "characters", "tokens"),
    [
        (["one", " two", "\n\n", "three"], 7, 2),
        (["one", " two", "\n\n", "three"], 0, 0),
        (["one", " two", "\n\n", "three"], 14, 4),
        (["one", " two."], 7, 2),
        (["a", "", "", "好", "b"], 2, 4),
        (["a", "", "b"], 1, 1),
        (["a"], 2, 1),
        ([], 0, 0),
    ],
)
def test_the_tokens_that_are_counted_are_those_of_the_text_that_was_kept(
    texts: list[str], characters: int, tokens: int
) -> None:
    count = TokenCount()
    for text in texts:
        count.add(text)
    assert count.within(characters) == tokens
    assert count.total == len(texts)
