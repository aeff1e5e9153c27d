"""How many tokens an answer took, as its budget counts them."""

import json

import pytest

from serving.endpoint.token_meter import TokenMeter

USAGE = b'"usage":{"prompt_tokens":6,"completion_tokens":4,"total_tokens":10}}'


def metered(*pieces: bytes, prompt_tokens: bytes = b"7", status: int = 200) -> int:
    meter = TokenMeter()
    headers = [(b"x-assay-prompt-tokens", prompt_tokens)]
    meter.take({"type": "http.response.start", "status": status, "headers": headers})
    for piece in pieces:
        meter.take({"type": "http.response.body", "body": piece})
    return meter.tokens


@pytest.mark.parametrize("cut", [5, 20, 40, 60])
def test_the_usage_that_an_answer_says_counts(cut: int) -> None:
    whole = b'{"choices":[{"text":"x"}],' + USAGE
    assert metered(whole) == metered(whole[:cut], whole[cut:]) == 10


def test_json_that_guardrails_or_the_cache_wrote_anew_counts_too() -> None:
    usage = {"prompt_tokens": 6, "completion_tokens": 4, "total_tokens": 10}
    whole = json.dumps({"choices": [{"text": "x"}], "usage": usage}).encode()
    assert metered(whole) == 10


def test_a_request_that_is_refused_takes_nothing() -> None:
    assert metered(b'{"error": {}}', status=503) == 0
    assert metered(b'{"error": {}}', status=200) == 7


def test_a_stream_that_says_no_usage_counts_by_its_prompt_and_its_events() -> None:
    event = b'data: {"choices":[{"delta":{"content":"x"}}],"usage":null}\n\n'
    assert metered(event, event, event, b"data: [DONE]\n\n") == 7 + 3
    assert metered(event, b"data: {" + USAGE + b"\n\ndata: [DONE]\n\n") == 10


def test_what_a_model_writes_is_no_usage() -> None:
    forged = b'{"choices":[{"text":"\\"usage\\":{\\"total_tokens\\":0}"}],' + USAGE
    assert metered(forged) == 10


def test_an_answer_that_took_nothing_counts_nothing() -> None:
    assert metered(b'{"error": {}}', prompt_tokens=b"x") == 0
