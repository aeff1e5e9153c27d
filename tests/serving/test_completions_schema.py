"""Every field that OpenAI's own client can send to `/v1/completions`."""

import json
from typing import Any

import pytest
from openai.types.completion_create_params import (
    CompletionCreateParamsNonStreaming,
    CompletionCreateParamsStreaming,
)

from pipelines.engines.refusal import Refusal
from serving.openai_schema.completions import CompletionRequest, parse_completion
from tests.serving.test_openai_schema import cases, is_for_people

TAKEN: dict[str, list[Any]] = {
    "model": ["tiny"],
    "prompt": ["", "x", ["x", "y"], [5, 6], [[5], [6, 7]], ["x", [5]]],
    "best_of": [None, 1],
    "echo": [None, True, False],
    "frequency_penalty": [None, 0],
    "ignore_eos": [None, False],
    "logit_bias": [None, {}],
    "logprobs": [None, 0, 5],
    "max_tokens": [None, 1, 5],
    "min_p": [None, 0.0],
    "min_tokens": [None, 0],
    "n": [None, 1, 2],
    "presence_penalty": [None, 0],
    "repetition_penalty": [None, 1],
    "seed": [None, -1, 1234],
    "stop": [None, [], "a", ["a"] * 16],
    "stream": [None, True, False],
    "stream_options": [None, {}],
    "suffix": [None],
    "temperature": [None, 0, 0.7],
    "top_k": [None, -1],
    "top_p": [None, 1],
    "user": [None, "ann"],
}
REFUSED: dict[str, list[Any]] = {
    "prompt": [
        None,
        5,
        [],
        [[]],
        {},
        [None],
        [True],
        [5, "x"],
        [-1],
        [1.5],
        ["x"] * 129,
    ],
    "logprobs": [6, -1, True, "1"],
    "max_tokens": [-1, 10**7, "5"],
    "n": [0, 17],
    "echo": [1],
    "suffix": ["x"],
    "best_of": [2],
    "stop": [["a"] * 17],
    "messages": [[{"role": "user", "content": "x"}]],
}


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "tiny", "prompt": "x", **fields}).encode()


def refused(given: bytes) -> str:
    with pytest.raises(Refusal) as refusal:
        parse_completion(given)
    assert refusal.value.status == 400
    return str(refusal.value)


def test_the_tables_hold_every_field_of_the_official_client() -> None:
    official = {
        *CompletionCreateParamsNonStreaming.__annotations__,
        *CompletionCreateParamsStreaming.__annotations__,
    }
    assert official <= TAKEN.keys() == CompletionRequest.model_fields.keys()


def test_every_field_says_what_to_send() -> None:
    fields = CompletionRequest.model_fields.values()
    assert all(field.description for field in fields)


@pytest.mark.parametrize(("name", "given"), cases(TAKEN))
def test_what_is_served_or_changes_nothing_is_taken(name: str, given: Any) -> None:
    assert name in parse_completion(body(**{name: given})).model_fields_set


@pytest.mark.parametrize(("name", "given"), cases(REFUSED))
def test_everything_else_is_refused_in_a_sentence_that_names_the_field(
    name: str, given: Any
) -> None:
    sentence = refused(body(**{name: given}))
    assert is_for_people(sentence, name), sentence


@pytest.mark.parametrize(
    ("given", "prompts"),
    [
        ("x", ("x",)),
        (["x", "y"], ("x", "y")),
        ([5, 6], ((5, 6),)),
        ([[5], [6, 7]], ((5,), (6, 7))),
        (["x", [5]], ("x", (5,))),
    ],
)
def test_each_form_of_prompts_is_read_as_what_it_means(
    given: Any, prompts: tuple[Any, ...]
) -> None:
    assert parse_completion(body(prompt=given)).prompt == prompts


def test_no_text_at_all_is_refused_and_an_echo_is_one() -> None:
    assert "echo" in refused(body(max_tokens=0))
    assert parse_completion(body(max_tokens=0, echo=True)).max_tokens == 0


def test_so_many_texts_are_given_to_a_request_and_no_more() -> None:
    assert parse_completion(body(prompt=["x"] * 8, n=16))
    assert "144 texts" in refused(body(prompt=["x"] * 9, n=16))


def test_each_answer_to_a_prompt_has_a_seed_of_its_own() -> None:
    request = parse_completion(body(n=3, seed=2**63 - 2))
    seeds = [each.seed for each in request.repeat(request.to_generation([5], 1))]
    assert seeds == [2**63 - 2, 2**63 - 1, -(2**63)]
