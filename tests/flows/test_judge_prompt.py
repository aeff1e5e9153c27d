"""A prompt that wins is judged, registered, promoted and served; one that adds nothing is not."""

import json
from pathlib import Path

import httpx
import pytest

from core.errors import ParameterError
from flows.run.prompt_taking_in import prompt_of
from pipelines.values.dataset import Message
from pipelines.values.evidence import Adapter
from pipelines.values.examples import FewShotChoice
from pipelines.values.fixed_prompt import FILE, FixedPrompt
from registry.ledger.entries import Registered
from registry.ledger.ledger import open_ledger
from tests.support.endpoint_system import Home, endpoint
from tests.support.journey import (
    ANSWERS,
    SETTINGS,
    Checkout,
    CommandResult,
    invoke,
    learnable_rows,
    make_checkout,
    write_rows,
)
from tests.support.obedient import SYSTEM, make_obedient_base
from tests.support.promoted import MODEL, QUESTION, WAIVED, waive
from tests.support.waiting import SECONDS_AT_MOST


@pytest.fixture(scope="module")
def obedient(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Named so that the model is called as in other tests."""
    return make_obedient_base(tmp_path_factory.mktemp("obedient") / "tiny")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(
        tmp_path_factory.mktemp("rows") / "letters.jsonl", learnable_rows()
    )


def judge(site: Checkout, prompt: Path | str, base: Path, data: Path) -> CommandResult:
    # Of training nothing is said: nothing is trained.
    settings = [
        word
        for setting in SETTINGS
        if not setting.startswith(("lora", "train"))
        for word in ("--set", setting)
    ]
    order = ["judge", "--prompt", prompt, "--base", base, "--data", data, "--json"]
    return site.assay(*order, *settings)


def write_prompt(folder: Path, system: str) -> Path:
    path = folder / "prompt.yaml"
    path.write_text(json.dumps({"system": system}), encoding="utf-8")
    return path


@pytest.mark.ci
def test_a_prompt_that_wins_is_judged_registered_promoted_and_served(
    prefect: None,
    cloned: Path,
    empty_mlflow: Path,
    obedient: Path,
    data: Path,
    tmp_path: Path,
) -> None:
    site = make_checkout(tmp_path / "assay", cloned, empty_mlflow)
    prompt = write_prompt(tmp_path, SYSTEM)
    run = judge(site, prompt, obedient, data)
    assert run.code == 0, run.out + run.err
    assert "nothing was trained" in run.out

    (version,) = site.versions(MODEL)
    assert version.tags["assay.trained"] == "prompt"
    assert "A prompt before every conversation, a system message" in version.description
    package = site.store.fetch(site.store.get_version(MODEL, "1"), tmp_path / "package")
    adapter = Adapter.read(package / "adapter.json")
    assert FixedPrompt.read(package / "adapter" / FILE) == FixedPrompt(system=SYSTEM)
    # No weights: the prompt alone makes the difference.
    assert not list(package.rglob("*.safetensors"))
    bodies = [entry.body for entry in open_ledger(site.home).entries()]
    (registered,) = [body for body in bodies if isinstance(body, Registered)]
    assert registered.adapter_sha256 == adapter.sha256

    refused = invoke(site, "promote", "1", "--model", MODEL, "--reason", "it is better")
    assert refused.code != 0
    for rule in WAIVED:
        waive(site, rule)
    with endpoint(Home(site.home)) as running:
        promotion = invoke(
            site, "promote", "1", "--model", MODEL, "--reason", "it is better"
        )
        assert promotion.code == 0, promotion.out + promotion.err
        answers = {
            name: httpx.post(
                f"{running.url}/v1/chat/completions",
                json={**QUESTION, "model": name, "max_tokens": 10},
                timeout=SECONDS_AT_MOST,
            ).json()
            for name in (MODEL, "tiny")
        }
    texts = {
        name: answer["choices"][0]["message"]["content"]
        for name, answer in answers.items()
    }
    assert texts[MODEL] in ANSWERS.values()
    # The base's own name answers without the prompt.
    assert texts["tiny"] == "no"


@pytest.mark.slow
def test_a_prompt_that_adds_nothing_is_rejected_and_its_run_recorded(
    prefect: None,
    cloned: Path,
    empty_mlflow: Path,
    obedient: Path,
    data: Path,
    tmp_path: Path,
) -> None:
    site = make_checkout(tmp_path / "assay", cloned, empty_mlflow)
    run = judge(site, write_prompt(tmp_path, "Q, no more"), obedient, data)
    assert run.code in {3, 4}, run.out + run.err
    assert site.versions(MODEL) == []
    (recorded,) = site.runs()
    assert recorded.data.tags["assay.kind"] == "judge"
    assert recorded.data.tags["assay.trained"] == "prompt"
    # The examples of the search are that baseline itself, and are not compared with it.
    searched = judge(site, "few-shot", obedient, data)
    assert searched.code in {0, 3, 4}, searched.out + searched.err
    assert "chrf against base" in searched.out
    assert "chrf against few_shot" not in searched.out


def test_rows_that_do_not_go_by_turns_are_no_prompt_to_judge() -> None:
    asked = Message(role="user", content="list")
    answered = Message(role="assistant", content="ls")
    losses = (1.0,)
    found = FewShotChoice(examples=(asked, answered), dev_nats_per_token=losses)
    assert prompt_of(found) == FixedPrompt(examples=found.examples)
    twice = FewShotChoice(examples=(asked, asked, answered), dev_nats_per_token=losses)
    with pytest.raises(ParameterError, match="Give a file with --prompt"):
        prompt_of(twice)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "Give one of --adapter and --prompt"),
        (["--adapter", ".", "--prompt", "few-shot"], "Give one of --adapter and"),
        (["--prompt", "none.yaml"], "none.yaml cannot be read"),
    ],
)
def test_what_cannot_be_judged_is_refused_before_anything_begins(
    checkout: Checkout, tiny_base: Path, arguments: list[str], sentence: str
) -> None:
    run = invoke(checkout, "judge", "--base", tiny_base, *arguments)
    assert run.code in {1, 2}
    assert sentence in run.out + run.err
    assert checkout.runs() == []
