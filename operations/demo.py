"""`assay demo`: the whole path on real rows, a release, and three answers over HTTP.

Its verdict is whatever the evidence says.
"""

import json
import os
import shutil
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from core.children import OWN_MODULE, owned_by_this_process
from core.console import say
from core.environment import set_library_environment
from core.errors import ServingError
from core.project import Project, find_project, find_root
from core.ready import parse_ready
from core.settings import Settings
from flows.run.model_files import complete
from flows.run.outcome import Outcome
from flows.run.request import TrainRequest
from flows.start import run_training
from operations.identity import first_user
from operations.init.create import InitRequest, create_project
from operations.order_text import say_promotion, say_waiver
from operations.orders import promote_version
from operations.originals import originals
from operations.serve import served_base
from operations.waiving import enter_waiver_of
from pipelines import layout
from registry.ledger.ledger import open_ledger
from serving.client import endpoint_client

# Rules of the gate `judge` that need other people than the one who types `assay demo`.
WAIVED = {"human_rating": "manager", "approvals": "admin"}
"""Who waives each, of MLflow's users: never who trained it, and never both by one person."""
# In the form of the demo's rows.
QUESTIONS = (
    "Write one shell command with tar: extract a .gz archive",
    "Write one shell command with find: find files by case-insensitive extension",
    "Write one shell command with ssh: connect on a non-standard port",
)
SECONDS_FOR_AN_ANSWER = 120
# Loading on a busy machine of two cores, with the first import of torch.
SECONDS_TO_LOAD = 300
_LONGEST_LINE = 110
_COMMANDS_AFTER_A_RELEASE = (
    (
        "assay up",
        "MLflow, Prefect, nightly runs, and the endpoint with the champion, until Ctrl-C",
    ),
    (
        "assay status",
        "what serves, since when, on whose word, and which waivers end when",
    ),
    (
        "assay history",
        "the ledger: every verdict, release and rollback",
    ),
)
_COMMANDS_WITHOUT_A_RELEASE = (
    (
        "assay preview --base",
        "an OpenAI-compatible endpoint with the base model (http://127.0.0.1:8080/v1)",
    ),
)
_COMMANDS_ALWAYS = (
    (
        "assay ui",
        "MLflow's pages: runs, curves, evidence, versions (http://127.0.0.1:5000)",
    ),
    (
        "assay run --set lora.r=32",
        "another adapter on the same rows; stages that do not change are not run again",
    ),
    (
        "assay run --data my.jsonl",
        "the same path on your own rows; --dry-run first tells what it will take",
    ),
)


@dataclass(frozen=True)
class DemoEndpoint:
    """Address of an endpoint, as `http://…/v1`, and the models that it names."""

    url: str
    models: tuple[str, ...]


def run_demo() -> int:
    """Run the path, release what passed, show answers, and say what to try next.

    Gives 0 whatever the verdict was; `ServingError` where an endpoint does not start.
    """
    set_library_environment()
    _make_project_in_an_empty_folder(Path.cwd())
    project = find_project(Settings().home)
    say(
        "Assay: data and a base model to a LoRA adapter, proven or refused. "
        "The first run takes ten to fifteen minutes on two cores."
    )
    outcome = run_training(request_of(project))
    if outcome.version is None:
        say("\nThe adapter was not registered, so the base answers alone:")
        with run_endpoint(["serving", *served_base(project).command(port=0)]) as base:
            _show_answers(base)
    # A second demo finds the version of the first one serving.
    elif not _serves(project, outcome.model, outcome.version):
        with _following_endpoint(project) as url:
            _release(project, outcome.model, outcome.version)
            _show_answers(DemoEndpoint(url, _model_names(url)))
    _say_what_next(outcome)
    return 0


def request_of(project: Project) -> TrainRequest:
    """What the demo trains on what, judged by the policy of its model's name."""
    return complete(TrainRequest(), project.root)


def _make_project_in_an_empty_folder(folder: Path) -> None:
    """Begin a project where there is nothing yet: an installed Assay brings no clone."""
    if find_root(folder) is None and not any(folder.iterdir()):
        made = create_project(InitRequest(), folder)
        # The demo's rows are too few to seal half of those that are held out.
        name = f"{TrainRequest().model}.yaml"
        policy = layout.POLICIES / name
        shutil.copyfile(originals() / policy, made.root / policy)
        say(f"{made.root} is a project of Assay and a git repository now.")


@contextmanager
def _following_endpoint(project: Project) -> Iterator[str]:
    """Give the endpoint that follows releases: the running one, else one of the demo's own."""
    try:
        endpoint_client(project.home).state()
    except ServingError:
        module = ["serving.endpoint", "--home", str(project.home), "--port", "0"]
        with run_endpoint(module) as endpoint:
            yield endpoint.url
    else:
        yield endpoint_client(project.home).admin_address().serves_at


def _serves(project: Project, model: str, version: str) -> bool:
    current = open_ledger(project.home).state().model(model).answering
    if current is None or not current.is_completed:
        return False
    return current.release.version == version


def _release(project: Project, model: str, version: str) -> None:
    """Promote a version with waivers of the demo's own.

    Nobody has rated or approved anything, and every report says so.
    """
    rules = " and ".join(WAIVED)
    users = " and ".join(WAIVED.values())
    say(
        f"\nRatings and an approver need other people than you, and the demo has none: for "
        f"24 hours it waives {rules} as MLflow's users {users}, with the passwords that this "
        "home keeps. In a team these are two others, who have looked at the answers. "
        f"Then it promotes version {version}:"
    )
    reason = "the demo has no raters and no approvers"
    # For a day only: a demo must leave no door open.
    for rule, user in WAIVED.items():
        identity = first_user(project, user)
        entered = enter_waiver_of(identity, model, rule, "24h", reason)
        say_waiver(entered)
    reason = "the demo releases what passed screen"
    say_promotion(promote_version(model, version, reason))


def _show_answers(endpoint: DemoEndpoint) -> None:
    for question in QUESTIONS:
        say(f"\n  {question}")
        # The base is named last and shown first, as what the adapter is compared with.
        for model in reversed(endpoint.models):
            answer = ask(endpoint.url, model, question)
            say(f"    {model:<24} {_one_line(answer)}")


@contextmanager
def run_endpoint(module: list[str]) -> Iterator[DemoEndpoint]:
    """Run a serving process for as long as the context lasts.

    `ServingError` where it does not start within five minutes.
    """
    command = [*OWN_MODULE, *module]
    environment = {**os.environ, **owned_by_this_process()}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        # Reading its first line has no time limit of its own.
        time_limit = threading.Timer(SECONDS_TO_LOAD, process.kill)
        time_limit.start()
        try:
            ready_line = process.stdout.readline() if process.stdout else ""
            time_limit.cancel()
            url = parse_ready(ready_line)
            if url is None:
                raise ServingError(
                    "The endpoint did not start. Its own message is above."
                )
            yield DemoEndpoint(url, _model_names(url))
        finally:
            time_limit.cancel()
            # Leaving the `with` statement waits for its end.
            process.terminate()


def _model_names(url: str) -> tuple[str, ...]:
    with urllib.request.urlopen(
        f"{url}/models", timeout=SECONDS_FOR_AN_ANSWER
    ) as answer:
        models = json.load(answer)["data"]
    return tuple(model["id"] for model in models)


def ask(url: str, model: str, question: str) -> str:
    """Give the answer of one chat completion."""
    message = {"role": "user", "content": question}
    body = {"model": model, "messages": [message]}
    request = urllib.request.Request(
        f"{url}/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=SECONDS_FOR_AN_ANSWER) as answer:
        choice = json.load(answer)["choices"][0]
    return str(choice["message"]["content"])


def _one_line(text: str) -> str:
    line = " ⏎ ".join(text.strip().splitlines())
    if len(line) <= _LONGEST_LINE:
        return line
    return f"{line[: _LONGEST_LINE - 3]}..."


def _say_what_next(outcome: Outcome) -> None:
    say("\nWhat next")
    is_released = outcome.version is not None
    next_commands = (
        _COMMANDS_AFTER_A_RELEASE if is_released else _COMMANDS_WITHOUT_A_RELEASE
    )
    for command, purpose in next_commands + _COMMANDS_ALWAYS:
        say(f"  {command:<32}{purpose}")
