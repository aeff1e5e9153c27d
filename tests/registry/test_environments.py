"""`environments.yaml`: where versions go, whose ledgers are believed, and what is no such file."""

from pathlib import Path

import pytest

from core.errors import ParameterError
from registry.release.environments import FILE, read_environments

KEY, OTHER = "a" * 64, "b" * 64


def write(root: Path, text: str) -> Path:
    (root / FILE).write_text(text, encoding="utf-8")
    return root


def test_without_the_file_there_is_nobody(tmp_path: Path) -> None:
    found = read_environments(tmp_path)
    assert found.targets == {}
    assert found.receives_from == {}


def test_a_file_names_where_to_send_and_whom_to_believe(tmp_path: Path) -> None:
    text = f"""\
targets:
  prod: {{mlflow: "https://mlflow.example.org/"}}
receives_from:
  dev: {{ledger_key: {KEY}}}
"""
    found = read_environments(write(tmp_path, text))
    assert found.target("prod").mlflow == "https://mlflow.example.org"
    assert found.receives_from["dev"].ledger_key == KEY


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[]", "it has no `targets:` at its top"),
        ("target: {}", "target"),
        ("targets: {prod: {mlflow: mlflow.example.org}}", "https://HOST"),
        ("targets: {prod: {mlflow: 'https://'}}", "https://HOST"),
        ("targets: {prod: {mlflow: 'sqlite:///x'}}", "https://HOST"),
        ("targets: {prod: {mlflow: 'https://a:b@h'}}", "Take the login out"),
        ("targets: {prod: {mlflow: 'https://a@h'}}", "Take the login out"),
        ("targets: {prod: {mlflow: 'https://:b@h'}}", "Take the login out"),
        ("targets: {../prod: {mlflow: 'https://h'}}", "targets"),
        ("receives_from: {dev: {ledger_key: abc}}", "ledger_key"),
        (f"receives_from: {{dev: {{ledger_key: {KEY.upper()}}}}}", "ledger_key"),
        (
            f"receives_from: {{a: {{ledger_key: {KEY}}}, b: {{ledger_key: {KEY}}}}}",
            "a and b have one key",
        ),
        ("receives_from: {a: {}, a: {}}", "is there twice"),
    ],
)
def test_a_file_that_is_not_whole_believes_nobody(
    tmp_path: Path, text: str, why: str
) -> None:
    with pytest.raises(ParameterError) as raised:
        read_environments(write(tmp_path, text))
    sentence = str(raised.value)
    assert why in sentence, sentence
    assert "until then nothing is sent or received" in sentence


def test_two_installations_with_keys_of_their_own_are_two(tmp_path: Path) -> None:
    text = f"receives_from: {{a: {{ledger_key: {KEY}}}, b: {{ledger_key: {OTHER}}}}}"
    assert set(read_environments(write(tmp_path, text)).receives_from) == {"a", "b"}


def test_a_target_that_is_not_listed_is_named_with_those_that_are(
    tmp_path: Path,
) -> None:
    with pytest.raises(ParameterError, match="it names none"):
        read_environments(tmp_path).target("prod")
    root = write(tmp_path, "targets: {dev: {mlflow: 'http://h'}}")
    with pytest.raises(ParameterError, match=r"no target 'prod' \(it names dev\)"):
        read_environments(root).target("prod")
