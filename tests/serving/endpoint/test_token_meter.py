"""How many tokens an answer took, as its budget counts them."""

import pytest

from serving.endpoint.answer_cache import AnswerCache
from serving.endpoint.guarding import Guardrails
from serving.endpoint.token_meter import TokenMeter
from serving.guardrails.rules import GuardRules

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


def test_an_answer_that_guardrails_changed_or_the_cache_kept_counts_alike() -> None:
    message = b'{"message":{"role":"assistant","content":"joe@example.com"}}'
    whole = b'{"id":"chatcmpl-1","choices":[' + message + b"]," + USAGE
    rules = GuardRules.model_validate({"response": {"email": "mask"}})
    changed = Guardrails(rules).new_answer_filter().whole(whole)
    cache = AnswerCache(100_000)
    cache.keep("k", whole)
    kept = cache.find("k") or b""
    for written_anew in (changed, kept):
        # Otherwise this shows nothing.
        assert USAGE not in written_anew
        assert metered(written_anew) == 10


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
