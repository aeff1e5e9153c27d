"""A policy names the prompts without training that an adapter has to beat."""

from pathlib import Path

import pytest

from core.errors import ParameterError
from pipelines.gates.baselines_policy import read_asked_baselines
from pipelines.gates.policy import load_policy
from pipelines.values.baselines import ALWAYS
from tests.support import trials


def policy(folder: Path, line: str) -> Path:
    text = trials.POLICY.read_text(encoding="utf-8")
    path = folder / "policy.yaml"
    path.write_text(text.replace("primary: chrf\n", f"primary: chrf\n{line}"))
    return path


def test_without_a_word_the_usual_two_are_asked_for(tmp_path: Path) -> None:
    path = policy(tmp_path, "")
    assert read_asked_baselines(path).baselines == ALWAYS
    assert load_policy(path).gates.screen.baselines == ALWAYS


def test_both_readers_of_a_policy_find_the_same_baselines(tmp_path: Path) -> None:
    path = policy(tmp_path, "  baselines: [retrieval, base, few_shot]\n")
    asked = read_asked_baselines(path).baselines
    assert asked == ("retrieval", "base", "few_shot")
    assert load_policy(path).gates.screen.baselines == asked


@pytest.mark.parametrize(
    ("named", "sentence"),
    [
        ("[]", "it lacks base and few_shot"),
        ("[base, retrieval]", "it lacks few_shot"),
        ("[base, few_shot, few_shot]", "names a baseline twice"),
        ("[base, few_shot, champion]", "does not fit"),
        ("null", "does not fit"),
        ("base", "does not fit"),
    ],
)
def test_neither_reader_takes_a_policy_that_names_anything_else(
    tmp_path: Path, named: str, sentence: str
) -> None:
    path = policy(tmp_path, f"  baselines: {named}\n")
    with pytest.raises(ParameterError, match=sentence):
        read_asked_baselines(path)
    with pytest.raises(ParameterError, match=sentence):
        load_policy(path)


@pytest.mark.parametrize("text", ["", "screen: 3\n", "name: x\n", "screen: [\n"])
def test_a_policy_without_a_screen_asks_for_nothing(tmp_path: Path, text: str) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    with pytest.raises(ParameterError):
        read_asked_baselines(path)
