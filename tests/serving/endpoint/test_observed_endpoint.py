"""The endpoint as a process shows what it does, keeps it, guards it and stands in for engines."""

import json
import re
import socket
import subprocess
from pathlib import Path

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from serving.endpoint.admin_address import admin_address_file
from serving.observing.reading import read_feedback, read_requests, records_folder
from tests.support.endpoint_system import MODEL, ROOT, Home, Running, command, endpoint
from tests.support.waiting import SECONDS_AT_MOST, wait_until

RULES = {
    "requests": {"texts": "masked"},
    "feedback": {},
    "guardrails": {"request": {"email": "mask"}},
    "fallback": {"steps": ["base", "template"]},
}
MAIL = "joe@example.com"


def count_in(text: str, sample: str, **labels: str) -> float:
    found = [
        each.value
        for family in text_string_to_metric_families(text)
        for each in family.samples
        if each.name == sample and labels.items() <= each.labels.items()
    ]
    return sum(found)


def metrics_of(running: Running) -> str:
    response = httpx.get(f"{running.url}/metrics", timeout=SECONDS_AT_MOST)
    assert response.status_code == 200
    return response.text


def ask_with_mail(running: Running, **fields: object) -> httpx.Response:
    messages = [{"role": "user", "content": f"Write to {MAIL}"}]
    body = {"model": MODEL, "messages": messages, "max_tokens": 4, **fields}
    return httpx.post(
        f"{running.url}/v1/chat/completions", json=body, timeout=SECONDS_AT_MOST
    )


@pytest.mark.ci
def test_an_endpoint_with_all_of_it_shows_keeps_guards_and_stands_in(
    home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text(yaml.safe_dump(RULES))
    monkeypatch.setenv("ASSAY_ENDPOINT_RULES", str(rules))
    with endpoint(home) as running:
        home.release("1")
        whole = ask_with_mail(running)
        streamed = ask_with_mail(running, stream=True)
        made_up = running.ask("made-up-name")
        assert (whole.status_code, streamed.status_code) == (200, 200)
        assert made_up.status_code == 404
        rated = httpx.post(
            f"{running.url}/v1/feedback",
            json={"id": whole.json()["id"], "score": -1, "text": f"I am {MAIL}"},
            timeout=SECONDS_AT_MOST,
        )
        assert rated.status_code == 200
        text = metrics_of(running)
        labels = {"model": MODEL, "release": "1"}
        usage = whole.json()["usage"]
        counted = {
            "assay_requests_total": 2,
            "assay_request_seconds_count": 2,
            "assay_first_token_seconds_count": 1,
            "assay_prompt_tokens_total": usage["prompt_tokens"],
            "assay_completion_tokens_total": usage["completion_tokens"],
            "assay_feedback_total": 1,
            "assay_engine_ready": 1,
            "assay_share_percent": 100,
        }
        for name, expected in counted.items():
            assert count_in(text, name, **labels) == expected, name
        assert count_in(text, "assay_guardrail_actions_total", kind="email") == 2
        for process in ("endpoint", "engine"):
            resident = "assay_process_resident_bytes"
            assert count_in(text, resident, process=process) > 10_000_000
        assert (
            count_in(text, "assay_ledger_generation")
            == home.ledger_state.head.generation
        )
        assert "made-up-name" not in text
        assert "joe" not in text

        running.kill_engine_of(home.package("1"))
        wait_until(
            lambda: (
                count_in(metrics_of(running), "assay_engine_restarts_total", **labels)
                >= 1
            )
        )
        home.wait(home.answers_with("1"))
        assert running.ask().status_code == 200
    kept = read_requests(home.path).to_pylist()
    assert [row["status"] for row in kept] == [200, 200, 404, 200]
    first, *_ = kept
    assert (first["model"], first["release"]) == (MODEL, "1")
    assert first["fingerprint"] == home.specs["1"].fingerprint
    assert first["id"] == whole.json()["id"]
    assert json.loads(first["prompt"])[0]["content"] == "Write to [EMAIL]"
    assert first["guardrails"] == ["request.email.mask:1"]
    (rating,) = read_feedback(home.path).to_pylist()
    assert (rating["answer_id"], rating["score"]) == (first["id"], -1)
    assert (rating["release"], rating["text"]) == ("1", "I am [EMAIL]")
    for path in records_folder(home.path).rglob("*.*"):
        assert MAIL.encode() not in path.read_bytes()
    assert MAIL not in running.log.read_text()
    assert "Guardrails, request: email.mask 1" in running.log.read_text()


@pytest.mark.ci
def test_metrics_at_an_address_of_their_own_are_nowhere_else(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("ASSAY_METRICS_ADDRESS", f"127.0.0.1:{port}")
    with endpoint(home) as running:
        said = re.search(r"Metrics are at (\S+)", running.log.read_text())
        assert said is not None
        own = httpx.get(said[1], timeout=SECONDS_AT_MOST)
        assert (own.status_code, said[1]) == (200, f"http://127.0.0.1:{port}/metrics")
        assert "assay_alarms 0.0" in own.text
        public = httpx.get(f"{running.url}/metrics", timeout=SECONDS_AT_MOST)
        assert public.status_code == 404
        address = json.loads(admin_address_file(home.path).read_text())
        admin = httpx.get(f"{address['url']}/metrics", timeout=SECONDS_AT_MOST)
        assert admin.status_code == 404
    assert running.process.returncode == 0


@pytest.mark.ci
def test_rules_that_do_not_fit_keep_the_endpoint_from_starting(
    home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text("guardrails: {response: {email: hide}}")
    monkeypatch.setenv("ASSAY_ENDPOINT_RULES", str(rules))
    ended = subprocess.run(
        command(home.path),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS_AT_MOST,
    )
    assert ended.returncode == 1
    assert "do not fit: guardrails.response.email" in ended.stderr
