"""`assay demo`: the whole path on real rows, then three answers over HTTP. Its verdict is whatever the evidence says."""

import json
import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from flows.environment import quieten
from flows.outcome import Outcome
from flows.report import say
from flows.request import TrainRequest
from flows.serve import Served, served_base, served_version
from flows.start import run_training
from flows.workspace import Project, find_project
from pipelines.errors import ServingError
from pipelines.settings import Settings

QUESTIONS = (
    "Write one shell command with tar: extract a .gz archive",
    "Write one shell command with find: find files by case-insensitive extension",
    "Write one shell command with ssh: connect on a non-standard port",
)
SECONDS_FOR_AN_ANSWER = 120
SECONDS_TO_LOAD = 300


def run_demo() -> int:
    """Run the path, show answers, and say what to try next; 0 whatever the verdict was."""
    quieten()
    project = find_project(Settings().home)
    say("Assay: data and a base model to a LoRA adapter, proven or refused. The first run takes ten to fifteen minutes on two cores.")
    outcome = run_training(TrainRequest())
    if not outcome.unchanged:
        _show_answers(project, outcome)
    _say_what_next(outcome)
    return 0


def _show_answers(project: Project, outcome: Outcome) -> None:
    served = served_version(project, outcome.model, outcome.version) if outcome.version else served_base(project)
    if outcome.version is None:
        say("\nThe adapter was not registered, so the base answers alone:")
    with endpoint(served) as (url, models):
        for question in QUESTIONS:
            say(f"\n  {question}")
            for model in reversed(models):
                say(f"    {model:<24} {_one_line(ask(url, model, question))}")


@contextmanager
def endpoint(served: Served) -> Iterator[tuple[str, list[str]]]:
    """An endpoint process for as long as the context lasts: its address and the models that it names."""
    command = [sys.executable, "-m", "serving", *served.command(port=0)]
    environment = {**os.environ, "ASSAY_RUN_PID": str(os.getpid())}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        too_long = threading.Timer(SECONDS_TO_LOAD, process.kill)
        too_long.start()
        try:
            ready = process.stdout.readline() if process.stdout else ""
            too_long.cancel()
            if not ready.startswith("Ready:"):
                raise ServingError("The endpoint did not start. Its own message stands above.")
            url = ready.rsplit(" at ", 1)[1].strip()
            with urllib.request.urlopen(f"{url}/models", timeout=SECONDS_FOR_AN_ANSWER) as answer:
                yield url, [model["id"] for model in json.load(answer)["data"]]
        finally:
            too_long.cancel()
            process.terminate()


def ask(url: str, model: str, question: str) -> str:
    """One chat completion."""
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": question}]}).encode()
    request = urllib.request.Request(f"{url}/chat/completions", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=SECONDS_FOR_AN_ANSWER) as answer:
        return str(json.load(answer)["choices"][0]["message"]["content"])


def _one_line(text: str) -> str:
    line = " ⏎ ".join(text.strip().splitlines())
    return line if len(line) <= 110 else f"{line[:107]}..."


def _say_what_next(outcome: Outcome) -> None:
    say("\nWhat next")
    say("  assay ui                        MLflow's pages: runs, curves, evidence, versions (http://127.0.0.1:5000)")
    if outcome.version is not None:
        say(f"  assay serve --model {outcome.model}   an OpenAI-compatible endpoint with base and tuned model (http://127.0.0.1:8080/v1)")
    else:
        say("  assay serve --base              an OpenAI-compatible endpoint with the base model (http://127.0.0.1:8080/v1)")
    say("  assay run --set lora.r=32       another adapter on the same rows; stages that do not change are not run again")
    say("  assay run --data my.jsonl       the same path on your own rows; --dry-run first tells what it will take")
