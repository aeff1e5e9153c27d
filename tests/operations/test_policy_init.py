"""`assay policy init` writes a policy that loads, says why, and replaces none."""

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from cli import main
from pipelines.gates.policy import load_policy
from tests.support.journey import CommandResult


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "my rows.jsonl"
    answers = ("positive", "negative")
    lines = [
        {"prompt": f"{chr(97 + n % 26)}{n} was it good?", "completion": answers[n % 2]}
        for n in range(300)
    ]
    text = "\n".join(json.dumps(line) for line in lines)
    path.write_text(text, encoding="utf-8")
    return path


def init(*arguments: str | Path) -> CommandResult:
    words = ["policy", "init", *map(str, arguments)]
    result = CliRunner().invoke(main, words)
    return CommandResult(result.exit_code, result.stdout, result.stderr)


def test_the_file_loads_and_its_comments_are_the_reasons_that_are_printed(
    rows: Path, tmp_path: Path
) -> None:
    made = init(rows)
    assert made.code == 0, made.err
    policy = load_policy(tmp_path / "policy.yaml").gates
    assert (policy.name, policy.screen.primary) == ("policy", "label_f1")
    text = (tmp_path / "policy.yaml").read_text(encoding="utf-8")
    reasons = [line[2:] for line in made.out.splitlines() if line.startswith("- ")]
    assert len(reasons) >= 3
    for reason in reasons:
        assert f"# {reason}" in text
    assert made.out.splitlines()[-1] == (
        f"Next: assay run --data '{rows}' --policy policy.yaml "
        '--set "score.metrics=[label_f1, label_accuracy, perplexity_per_token, bits_per_byte]"'
    )


def test_a_policy_that_is_there_is_not_replaced(rows: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("mine", encoding="utf-8")
    again = init(rows, "--out", tmp_path / "mine.yaml")
    assert (again.code, "is there already" in again.err) == (1, True)
    assert (tmp_path / "mine.yaml").read_text(encoding="utf-8") == "mine"
    assert [path.name for path in tmp_path.glob("*.yaml")] == ["mine.yaml"]


def test_long_answers_are_given_the_tokens_that_they_need(
    rows: Path, tmp_path: Path
) -> None:
    lines = [
        {
            "prompt": f"p{n} {chr(97 + n % 26)}",
            "completion": json.dumps({"text": "x" * 300}),
        }
        for n in range(60)
    ]
    rows.write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")
    made = init(rows, "--out", tmp_path / "new.yaml", "--json")
    assert made.last["proposal"]["primary"] == "json_field_f1"
    assert "--set generation.max_new_tokens=128" in made.last["command"]
    document = yaml.safe_load((tmp_path / "new.yaml").read_text(encoding="utf-8"))
    assert document["screen"]["control"] == "json_field_f1"


@pytest.mark.parametrize("model", ["../evil", "", "a/b"])
def test_a_model_that_can_be_none_is_refused(rows: Path, model: str) -> None:
    assert init(rows, "--model", model).code == 1


def test_rows_that_cannot_be_used_are_refused(rows: Path) -> None:
    rows.write_text('{"prompt": "", "completion": ""}\n', encoding="utf-8")
    refused = init(rows)
    assert refused.code == 1
    assert not Path("policy.yaml").exists()
