"""`assay data inspect`: what is understood of a file, and what of it will be lost."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cli import main
from pipelines import layout
from pipelines.stages.validate import Suite, find_length_limits, read_suite

ROOT = Path(__file__).parents[2]
USER = {"role": "user", "content": "u"}
ANSWER = {"role": "assistant", "content": "a"}


def write(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def inspect(file: Path, *options: str | Path) -> Result:
    arguments = ["data", "inspect", str(file), *map(str, options)]
    return CliRunner().invoke(main, arguments)


def test_every_record_is_accounted_for_and_three_rows_are_shown(tmp_path: Path) -> None:
    records: list[dict[str, Any]] = [
        {
            "messages": [USER, {**ANSWER, "content": f"a{number}"}],
            "kind": f"k{number % 2}",
        }
        for number in range(7)
    ]
    records += [
        records[0],
        {"messages": [USER]},
        {"messages": [USER, {**ANSWER, "content": " "}]},
    ]
    done = inspect(write(tmp_path / "my.jsonl", records))
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [
        "file        my.jsonl: read as JSON lines",
        "shape       read as OpenAI chat: the last assistant turn is the answer",
        "columns     messages: conversation (lists, 10 rows)",
        "            kind: not used (2 labels, 8 rows)",
        "records     10 = 8 rows used + 2 set aside",
        (
            "            1 set aside: column messages does not end with an assistant's answer, but "
            "with a turn of role user"
        ),
        "            1 set aside: the completion is empty",
        "            1 duplicate: the prompt and the answer of another row; one of each is kept",
        "prompts     1 distinct, 1 with several answers: references of each other",
        "feature     no sensitive feature is declared; it may be data.sensitive_feature=kind",
        "notes       not used: `kind` (2 labels, 8 rows)",
        "",
        "record 1",
        "  prompt    user: u",
        "  answer    a0",
        "",
        "record 5",
        "  prompt    user: u",
        "  answer    a4",
        "",
        "record 8",
        "  prompt    user: u",
        "  answer    a0",
    ]


def test_the_json_line_holds_the_same(tmp_path: Path) -> None:
    records = [
        {"prompt": f"p{number}", "completion": "c" * number, "sex": "Ff"[number % 2]}
        for number in range(6)
    ]
    done = inspect(
        write(tmp_path / "my.jsonl", records),
        "--json",
        "--set",
        "data.max_characters=4",
        "--set",
        "data.sensitive_feature=sex",
    )
    told = json.loads(done.stdout)
    assert told["reading"]["records"] == 6
    assert (told["usable"], told["set_aside"]) == (
        4,
        {
            "the completion is empty": 1,
            "the completion is longer than data.max_characters, 4": 1,
        },
    )
    assert told["groups"] == {"F": 2, "f": 2}
    assert told["reading"]["notes"] == [
        "sex: F (3), f (3) are probably one group, and are compared as 2: write them in one way"
    ]


def test_a_base_model_renders_the_examples_with_its_control_tokens(
    tmp_path: Path, tiny_base: Path
) -> None:
    file = write(tmp_path / "my.jsonl", [{"prompt": "u", "completion": "a"}])
    done = inspect(file, "--base-model", tiny_base, "--json")
    assert done.exit_code == 0, done.output
    (example,) = json.loads(done.stdout)["examples"]
    assert example["prompt"].startswith("<|im_start|>user\nu<|im_end|>")
    assert example["completion"] == "a<|im_end|>"


def test_what_a_template_refuses_is_counted_and_named(
    tmp_path: Path, tiny_base: Path
) -> None:
    system = {"role": "system", "content": "s"}
    records = [{"messages": [USER, ANSWER]}, {"messages": [system, USER, ANSWER]}]
    template = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}"
        "{% endif %}<|im_start|>{{ m.role }} {{ m.content }}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant ' }}{% endif %}"
    )
    done = inspect(
        write(tmp_path / "my.jsonl", records),
        "--base-model",
        tiny_base,
        "--set",
        f"base_model.chat_template={json.dumps(template)}",
    )
    assert done.exit_code == 0, done.output
    assert (
        "1 row: The chat template refuses a conversation of system, user" in done.stdout
    )
    assert "The first is record 2." in done.stdout


def test_a_template_is_asked_with_every_row_and_not_with_one_of_a_kind(
    tmp_path: Path, tiny_base: Path
) -> None:
    template = (
        "{% for m in messages %}{% if 'secret' in m.content %}"
        "{{ raise_exception('no secrets') }}{% endif %}"
        "<|im_start|>{{ m.role }} {{ m.content }}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant ' }}{% endif %}"
    )
    records = [{"prompt": f"p{number}", "completion": "c"} for number in range(6)]
    records[3]["prompt"] = "a secret"
    records[5]["prompt"] = "another secret"
    setting = f"base_model.chat_template={json.dumps(template)}"
    file = write(tmp_path / "my.jsonl", records)
    done = inspect(file, "--base-model", tiny_base, "--set", setting)
    assert "2 rows: The chat template refuses" in done.stdout
    assert "The first is record 4." in done.stdout


def test_the_rows_that_a_template_was_not_asked_with_are_said(
    tmp_path: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("operations.inspect_data.MOST_ROWS_ASKED", 2)
    records = [{"prompt": f"p{number}", "completion": "c"} for number in range(3)]
    file = write(tmp_path / "my.jsonl", records)
    said = "the chat template was asked with the first 2 of 3 rows"
    assert said in inspect(file, "--base-model", tiny_base).stdout
    assert said not in inspect(file).stdout


def test_the_most_frequent_loss_is_named_whichever_stage_it_is_of(
    tmp_path: Path,
) -> None:
    records = [{"prompt": "p", "completion": "too long"} for _ in range(3)]
    records.append({"prompt": "p"})
    file = write(tmp_path / "my.jsonl", records)
    done = inspect(file, "--set", "data.max_characters=2")
    assert "(3 of 4: the completion is longer than data.max_characters, 2)" in (
        done.stderr
    )


def test_lengths_are_those_of_the_expectations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = read_suite(ROOT / layout.EXPECTATIONS)
    assert find_length_limits(suite, 7) == {"prompt": (1, 7), "completion": (1, 7)}
    shorter = suite.model_dump(mode="json", exclude={"sha256"})
    for expectation in shorter["expectations"]:
        if expectation["kwargs"].get("column") == "completion_characters":
            expectation["kwargs"]["min_value"] = 3
    suite = Suite.model_validate(shorter)
    monkeypatch.setattr("operations.inspect_data.read_suite", lambda _: suite)
    records = [{"prompt": "p", "completion": text} for text in ("ab", "abc")]
    done = inspect(write(tmp_path / "my.jsonl", records))
    assert "1 set aside: the completion has fewer than 3 characters" in done.stdout


@pytest.mark.parametrize(
    ("records", "said"),
    [
        (
            [{"messages": [USER]}],
            "No row of {file} can be used (1 of 1: column messages does",
        ),
        ([], "No row of {file} can be used (it holds no record)"),
        ([{"question": "q", "answer": "a"}], "--set data.prompt_column=question"),
    ],
)
def test_a_file_without_a_row_is_one_error(
    tmp_path: Path, records: list[dict[str, Any]], said: str
) -> None:
    file = write(tmp_path / "my.jsonl", records)
    done = inspect(file)
    assert done.exit_code == 1
    (line,) = done.stderr.splitlines()
    assert said.format(file=file) in line


def test_it_needs_no_home_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path / "my.jsonl", [{"prompt": "p", "completion": "c"}])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ASSAY_HOME", str(tmp_path / "home"))
    assert inspect(file).exit_code == 0
    assert list(tmp_path.iterdir()) == [file]


def test_its_help_imports_nothing_heavy() -> None:
    program = (
        "import sys\n"
        "from cli import main\n"
        "main(['data', 'inspect', '--help'], standalone_mode=False)\n"
        "heavy = {'torch', 'transformers', 'pandas', 'pyarrow', 'pydantic'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"
