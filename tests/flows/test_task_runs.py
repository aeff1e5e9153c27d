"""A classification and a JSON task, from rows to an answer over HTTP, by what Assay proposes."""

import json
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
import yaml

from tests.support.endpoint_system import Home, endpoint
from tests.support.journey import (
    SETTINGS,
    Checkout,
    CommandResult,
    invoke,
    learnable_rows,
    write_rows,
)
from tests.support.waiting import SECONDS_AT_MOST
from tests.support.waivers import waive_as_others

LABELS = {"a": "refund", "b": "delivery", "c": "account", "d": "other"}
COLOURS = {"a": "red", "b": "green", "c": "blue", "d": "black"}
Answer = Callable[[str], str]


class TaskRows(NamedTuple):
    """Rows of a task, and what a person looks at in the end."""

    name: str
    primary: str
    answer: Answer
    tokens: int
    """One a byte."""


def extracted(letter: str) -> str:
    """What a prompt says, as JSON: a text and a number."""
    number = ord(letter) - ord("a")
    return json.dumps({"colour": COLOURS[letter], "size": number})


CLASSES = TaskRows("classes", "label_f1", LABELS.__getitem__, 12)
JSON = TaskRows("json", "json_field_f1", extracted, 40)


def rows_of(answer: Answer) -> list[dict[str, str]]:
    """Distinct prompts whose last letter says the answer, whoever asks."""
    return [
        {**row, "completion": answer(row["prompt"][-1])} for row in learnable_rows()
    ]


def proposed_run(site: Checkout, data: Path, model: str) -> list[str]:
    """The words of the command that `assay policy init` says to type next."""
    made = invoke(site, "policy", "init", data, "--model", model)
    assert made.code == 0, made.err
    last = made.out.splitlines()[-1]
    words = shlex.split(last.removeprefix("Next: "))
    assert words[:2] == ["assay", "run"]
    return words[1:]


def ask_for_retrieval(policy: Path) -> None:
    """Have similar training rows in the prompt compete as well, as a person edits a policy."""
    document = yaml.safe_load(policy.read_text(encoding="utf-8"))
    document["screen"]["baselines"] = ["base", "few_shot", "retrieval"]
    policy.write_text(yaml.safe_dump(document), encoding="utf-8")


def settings(tokens: int) -> Sequence[str]:
    """Under which the tiny model learns, besides what is proposed."""
    own = [each for each in SETTINGS if not each.startswith("generation.max_new")]
    own.append(f"generation.max_new_tokens={tokens}")
    return [word for setting in own for word in ("--set", setting)]


def run_task(site: Checkout, task: TaskRows, data: Path, base: Path) -> CommandResult:
    """`assay run` as it is proposed."""
    model = f"{task.name}-tiny"
    words = proposed_run(site, data, model)
    ask_for_retrieval(site.root / f"registry/policies/{model}.yaml")
    named = ("--base-model", base, "--model", model, "--json")
    return site.assay(*words, *named, *settings(task.tokens))


def scores(result: CommandResult, metric: str) -> dict[str, float]:
    """By system."""
    found = {}
    for system in result.last["scorecard"]["systems"]:
        for each in system["metrics"]:
            if each["name"] == metric:
                found[system["system"]] = each["interval"]["estimate"]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("task", [CLASSES, JSON], ids=lambda task: task.name)
def test_rows_become_an_endpoint_by_the_policy_that_is_proposed_for_their_task(
    checkout: Checkout, tiny_base: Path, tmp_path: Path, task: TaskRows
) -> None:
    data = write_rows(tmp_path / "rows.jsonl", rows_of(task.answer))
    run = run_task(checkout, task, data, tiny_base)
    assert run.code == 0, run.out + run.err

    # The task's own metric decides: the other ones may only not get worse.
    found = scores(run, task.primary)
    # So few steps teach the form of an answer and most of its fields.
    assert found["adapter"] > 0.6
    assert found["base"] < 0.1
    reasons = run.last["reasons"]
    for baseline in ("base", "few_shot", "retrieval"):
        said = f"{task.primary} against {baseline}: better by"
        assert any(said in reason for reason in reasons), reasons

    model = f"{task.name}-tiny"
    (version,) = checkout.versions(model)
    assert f"| {task.primary} " in version.description
    # Counted again from the evidence, under the same policy.
    folder = tmp_path / "evidence"
    checkout.store.runs.fetch_evidence(run.last["mlflow_run"], folder)
    assert invoke(checkout, "gate", folder).code == 0

    waive_as_others(checkout.home, model, ["human_rating", "approvals"])
    with endpoint(Home(checkout.home)) as running:
        order = ("promote", "1", "--model", model, "--reason", "it is better")
        promotion = invoke(checkout, *order)
        assert promotion.code == 0, promotion.out + promotion.err
        question = {
            "model": model,
            "max_tokens": task.tokens,
            "messages": [{"role": "user", "content": "mi12 c"}],
        }
        answer = httpx.post(
            f"{running.url}/v1/chat/completions", json=question, timeout=SECONDS_AT_MOST
        )
    said = answer.json()["choices"][0]["message"]["content"]
    # Which the base, of noise, never says.
    assert said in {task.answer(letter) for letter in "abcd"}
