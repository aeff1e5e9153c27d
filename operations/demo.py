"""`assay demo`: the whole path on real rows, a release, three answers over HTTP. Its verdict is whatever the evidence says."""

import json
import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from core.console import say
from core.environment import set_library_environment
from core.errors import ServingError
from core.project import Project, find_project
from core.ready import parse_ready
from core.settings import Settings
from flows.run.outcome import Outcome
from flows.run.request import TrainRequest
from flows.start import run_training
from operations.orders import run_promote, run_waive
from operations.serve import served_base
from registry.ledger.ledger import open_ledger
from serving.client import endpoint_client

WAIVED = ("human_rating", "approvals", "package_signature")
QUESTIONS = (
    "Write one shell command with tar: extract a .gz archive",
    "Write one shell command with find: find files by case-insensitive extension",
    "Write one shell command with ssh: connect on a non-standard port",
)
SECONDS_FOR_AN_ANSWER = 120
SECONDS_TO_LOAD = 300


def run_demo() -> int:
    """Run the path, release what passed, show answers, and say what to try next; 0 whatever the verdict was."""
    set_library_environment()
    project = find_project(Settings().home)
    say(
        "Assay: data and a base model to a LoRA adapter, proven or refused. The first run takes ten to fifteen minutes on two cores."
    )
    outcome = run_training(TrainRequest())
    if outcome.version is None:
        say("\nThe adapter was not registered, so the base answers alone:")
        with endpoint(["serving", *served_base(project).command(port=0)]) as (
            url,
            models,
        ):
            _show_answers(url, models)
    elif not _serves(project, outcome.model, outcome.version):
        with _following(project) as url:
            _release(outcome.model, outcome.version)
            _show_answers(url, _models(url))
    _say_what_next(outcome)
    return 0


@contextmanager
def _following(project: Project) -> Iterator[str]:
    """The endpoint that follows releases: the one that runs already, else one for as long as the demo."""
    try:
        endpoint_client(project.home).state()
    except ServingError:
        with endpoint(
            ["serving.endpoint", "--home", str(project.home), "--port", "0"]
        ) as (url, _):
            yield url
    else:
        yield endpoint_client(project.home).admin_address().serves_at


def _serves(project: Project, model: str, version: str) -> bool:
    current = open_ledger(project.home).state().model(model).answering
    return (
        current is not None
        and current.is_completed
        and current.release.version == version
    )


def _release(model: str, version: str) -> None:
    """Promote with waivers of the demo's own: nobody has rated, approved or signed anything, and every report says so."""
    say(
        f"\nThe demo waives for 24 hours what only people and keys can give ({', '.join(WAIVED)}), and promotes version {version}:"
    )
    for rule in WAIVED:
        run_waive(
            model,
            rule,
            "24h",
            "the demo has no raters, no approvers and no signing key",
        )
    run_promote(model, version, "the demo releases what passed screen", as_json=False)


def _show_answers(url: str, models: list[str]) -> None:
    for question in QUESTIONS:
        say(f"\n  {question}")
        for model in reversed(models):
            say(f"    {model:<24} {_one_line(ask(url, model, question))}")


@contextmanager
def endpoint(module: list[str]) -> Iterator[tuple[str, list[str]]]:
    """A serving process for as long as the context lasts: its address and the models that it names."""
    command = [sys.executable, "-m", *module]
    environment = {**os.environ, "ASSAY_RUN_PID": str(os.getpid())}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        too_long = threading.Timer(SECONDS_TO_LOAD, process.kill)
        too_long.start()
        try:
            line = process.stdout.readline() if process.stdout else ""
            too_long.cancel()
            url = parse_ready(line)
            if url is None:
                raise ServingError(
                    "The endpoint did not start. Its own message stands above."
                )
            yield url, _models(url)
        finally:
            too_long.cancel()
            process.terminate()


def _models(url: str) -> list[str]:
    with urllib.request.urlopen(
        f"{url}/models", timeout=SECONDS_FOR_AN_ANSWER
    ) as answer:
        return [model["id"] for model in json.load(answer)["data"]]


def ask(url: str, model: str, question: str) -> str:
    """One chat completion."""
    body = json.dumps(
        {"model": model, "messages": [{"role": "user", "content": question}]}
    ).encode()
    request = urllib.request.Request(
        f"{url}/chat/completions", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=SECONDS_FOR_AN_ANSWER) as answer:
        return str(json.load(answer)["choices"][0]["message"]["content"])


def _one_line(text: str) -> str:
    line = " ⏎ ".join(text.strip().splitlines())
    return line if len(line) <= 110 else f"{line[:107]}..."


def _say_what_next(outcome: Outcome) -> None:
    say("\nWhat next")
    if outcome.version is not None:
        say(
            "  assay up                        MLflow, Prefect, nightly runs, and the endpoint with the champion, until Ctrl-C"
        )
        say(
            "  assay status                    what serves, since when, on whose word, and which waivers end when"
        )
        say(
            "  assay history                   the ledger: every verdict, release and rollback"
        )
    else:
        say(
            "  assay preview --base            an OpenAI-compatible endpoint with the base model (http://127.0.0.1:8080/v1)"
        )
    say(
        "  assay ui                        MLflow's pages: runs, curves, evidence, versions (http://127.0.0.1:5000)"
    )
    say(
        "  assay run --set lora.r=32       another adapter on the same rows; stages that do not change are not run again"
    )
    say(
        "  assay run --data my.jsonl       the same path on your own rows; --dry-run first tells what it will take"
    )
