"""Clients that others wrote: OpenAI's for JavaScript, and lm-evaluation-harness by both routes."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.endpoint_system import MODEL, QUESTION, Home, Running, endpoint
from tests.support.own_environment import make_environment
from tests.support.waiting import SECONDS_AT_MOST

pytestmark = pytest.mark.slow

BASE = "tiny"
NODE, NPM = shutil.which("node"), shutil.which("npm")
JAVASCRIPT_CLIENT = "openai@^6"
HARNESS = "lm_eval[api]==0.4.13"
SCRIPT = Path(__file__).with_name("openai_client.mjs")


@pytest.fixture(scope="module")
def running(shared: Home) -> Iterator[Running]:
    with endpoint(shared) as running:
        shared.release("1")
        yield running


@pytest.fixture(scope="module")
def seen_by_javascript(
    running: Running, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    if NODE is None or NPM is None:
        pytest.skip("Debian's nodejs and npm are not installed")
    folder = tmp_path_factory.mktemp("javascript")
    install = [NPM, "install", "--silent", "--no-audit", "--no-fund", JAVASCRIPT_CLIENT]
    subprocess.run(install, cwd=folder, check=True, timeout=600)
    script = shutil.copy(SCRIPT, folder)
    run = subprocess.run(
        [NODE, script, f"{running.url}/v1", MODEL],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=SECONDS_AT_MOST,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    seen: dict[str, Any] = json.loads(run.stdout)
    return seen


def test_openais_client_for_javascript_gets_what_its_client_for_python_gets(
    running: Running, seen_by_javascript: dict[str, Any]
) -> None:
    seen = seen_by_javascript
    answer = running.client.chat.completions.create(
        model=MODEL, messages=QUESTION, max_tokens=12
    )
    assert answer.usage is not None
    text = answer.choices[0].message.content
    assert seen["whole"] == seen["streamed"]["text"] == text
    assert seen["fingerprint"] == answer.system_fingerprint
    assert seen["release"] == "1"
    usage = seen["streamed"]["usage"]
    assert usage["completion_tokens"] == answer.usage.completion_tokens
    assert usage["prompt_tokens"] == answer.usage.prompt_tokens
    assert seen["streamed"]["reason"] == answer.choices[0].finish_reason
    assert sorted(seen["listed"]) == sorted([MODEL, BASE])


def test_its_settings_do_what_they_say(seen_by_javascript: dict[str, Any]) -> None:
    seen = seen_by_javascript
    assert seen["stopped"]["text"] == seen["whole"].partition("e")[0]
    first, second = seen["drawn"]
    assert first == second
    assert seen["several"] == 3
    assert seen["logprobs"] == seen["streamed"]["usage"]["completion_tokens"]
    assert seen["echoed"].startswith("list files")
    assert seen["scored"] == len("list files") + 6
    assert seen["left"].startswith("chatcmpl-")


def test_its_errors_have_class_code_and_field(
    seen_by_javascript: dict[str, Any],
) -> None:
    refused, unknown = seen_by_javascript["refused"], seen_by_javascript["unknown"]
    assert (refused["kind"], refused["param"]) == ("BadRequestError", "n")
    assert (unknown["kind"], unknown["code"]) == ("NotFoundError", "model_not_found")


# lm-evaluation-harness

CHOICES = """
task: choices
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_target: 0
doc_to_choice: choices
metric_list: [{{metric: acc}}]
"""
TEXTS = """
task: texts
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{choices[0]}}}}"
generation_kwargs: {{until: ["zz"], max_gen_toks: 12, do_sample: false}}
metric_list: [{{metric: exact_match}}]
"""
ROWS = [
    {"question": "list files", "choices": [" with ls", " with rm"]},
    {"question": "show free disk space", "choices": [" by df", " by cp -r"]},
    {"question": "how to copy a folder?", "choices": [" cp -r", " mv", " sed"]},
]


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tasks")
    rows = folder / "rows.jsonl"
    rows.write_text("".join(f"{json.dumps(row)}\n" for row in ROWS))
    for name, text in (("choices", CHOICES), ("texts", TEXTS)):
        (folder / f"{name}.yaml").write_text(text.format(rows=rows))
    return folder


class Harness:
    """`lm_eval`, and what it wrote down of each sample."""

    def __init__(self, programs: Path, tasks: Path) -> None:
        self._program = programs / "lm_eval"
        self._tasks = tasks

    def run(
        self, into: Path, task: str, kind: str, *options: str, **arguments: str
    ) -> list[Any]:
        """The responses, sample by sample."""
        pairs = ",".join(f"{name}={text}" for name, text in arguments.items())
        places = ("--include_path", str(self._tasks), "--output_path", str(into))
        run = subprocess.run(
            [
                *(str(self._program), "--model", kind, "--model_args", pairs),
                *("--tasks", task, "--log_samples", *places, *options),
            ],
            capture_output=True,
            text=True,
            timeout=SECONDS_AT_MOST,
            check=False,
        )
        assert run.returncode == 0, run.stderr[-4000:]
        (file,) = into.rglob("samples_*.jsonl")
        samples = [json.loads(line) for line in file.read_text().splitlines()]
        samples.sort(key=lambda sample: sample["doc_id"])
        assert len(samples) == len(ROWS)
        return [sample["filtered_resps"] for sample in samples]


@pytest.fixture(scope="module")
def harness(tasks: Path, tmp_path_factory: pytest.TempPathFactory) -> Harness:
    folder = tmp_path_factory.mktemp("harness")
    return Harness(make_environment(folder, HARNESS, sees_ours=True), tasks)


def base_folder(home: Home) -> str:
    digest = home.specs["1"].base_digest
    return str(home.path / "base-models" / digest)


def test_log_likelihoods_are_those_of_the_base_loaded_without_an_endpoint(
    harness: Harness, running: Running, shared: Home, tmp_path: Path
) -> None:
    folder = base_folder(shared)
    asked = harness.run(
        tmp_path / "asked",
        "choices",
        "local-completions",
        base_url=f"{running.url}/v1/completions",
        model=BASE,
        tokenizer=folder,
    )
    loaded = harness.run(
        tmp_path / "loaded", "choices", "hf", pretrained=folder, dtype="float32"
    )
    ours = [float(score) for choices in asked for score, _ in choices]
    theirs = [float(score) for choices in loaded for score, _ in choices]
    sys.stdout.write(f"through the endpoint {ours}\nby itself {theirs}\n")
    assert len(ours) == sum(len(row["choices"]) for row in ROWS)
    assert ours == pytest.approx(theirs, abs=1e-3)


def test_conversations_are_answered_as_openais_client_is_answered(
    harness: Harness, running: Running, tmp_path: Path
) -> None:
    answered = harness.run(
        tmp_path,
        "texts",
        "local-chat-completions",
        "--apply_chat_template",
        base_url=f"{running.url}/v1/chat/completions",
        model=MODEL,
    )
    expected: list[list[str | None]] = []
    for row in ROWS:
        answer = running.client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": str(row["question"])}],
            max_tokens=12,
            stop="zz",
        )
        expected.append([answer.choices[0].message.content])
    assert answered == expected


def test_texts_go_on_as_openais_client_has_them_go_on(
    harness: Harness, running: Running, shared: Home, tmp_path: Path
) -> None:
    answered = harness.run(
        tmp_path,
        "texts",
        "local-completions",
        base_url=f"{running.url}/v1/completions",
        model=MODEL,
        tokenizer=base_folder(shared),
    )
    expected: list[list[str]] = []
    for row in ROWS:
        answer = running.client.completions.create(
            model=MODEL, prompt=str(row["question"]), max_tokens=12, stop="zz"
        )
        expected.append([answer.choices[0].text])
    assert answered == expected
