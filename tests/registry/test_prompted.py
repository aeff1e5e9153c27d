"""Evidence names the examples after which a baseline answered, and other ones are named."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from core.errors import DamagedFile
from pipelines.gates.policy import load_policy
from pipelines.scoring.evidence_file import read_evidence
from pipelines.values.dataset import Message, ValidationReport
from pipelines.values.evidence import Scorecard
from pipelines.values.examples import FewShotChoice, Retrieved
from pipelines.values.fixed_prompt import FixedPrompt
from pipelines.values.trial import SystemAnswers, Trial
from registry.release.prompted import FEW_SHOT, RETRIEVED
from registry.release.recompute import recompute, rescreen
from tests.support import trials

ASKS = "primary: chrf\n  baselines: [base, few_shot, retrieval]\n"
Change = Callable[[Path], None]


def retrieved(trial: Trial) -> Retrieved:
    return Retrieved(
        method="bm25s|test",
        train_sha256="7" * 64,
        rows=100,
        examples=2,
        dev_nats_per_token={2: 1.0},
        found={prompt.id: ("row-1/1", "row-2/2") for prompt in trial.prompts},
    )


CHOICE = FewShotChoice(
    examples=(
        Message(role="user", content="list"),
        Message(role="assistant", content="ls"),
    ),
    dev_nats_per_token=(1.0,),
)


def with_prefix(answers: SystemAnswers, trial: Trial) -> SystemAnswers:
    prefixes = {
        "few_shot": CHOICE.prefix_sha256,
        "retrieval": retrieved(trial).prefix_sha256,
    }
    prefix = {"prompt_prefix_sha256": prefixes.get(answers.system)}
    completions = answers.completions.model_copy(update=prefix)
    return answers.model_copy(update={"completions": completions})


@pytest.fixture(scope="module")
def prompted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that passed, with all three baselines and their examples."""
    folder = tmp_path_factory.mktemp("prompted")
    trial = trials.trial(
        {
            "base": (trials.wrong, 4.0),
            "few_shot": (trials.wrong, 3.0),
            "retrieval": (trials.wrong, 2.8),
            "adapter": (trials.right, 2.0),
        }
    )
    systems = tuple(with_prefix(answers, trial) for answers in trial.systems)
    card = trials.write_folder(folder, trial.model_copy(update={"systems": systems}))
    policy = folder / "policy.yaml"
    policy.write_text(policy.read_text().replace("primary: chrf\n", ASKS))
    trials.write_verdict(folder, card)
    CHOICE.write(folder / FEW_SHOT)
    retrieved(trial).write(folder / RETRIEVED)
    path = folder / "validation_report.json"
    report = ValidationReport.read(path)
    train = report.splits["train"].model_copy(update={"sha256": "7" * 64})
    splits = {**report.splits, "train": train}
    report.model_copy(update={"splits": splits}).write(path)
    return folder


@pytest.fixture
def folder(prompted: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(prompted, tmp_path / "folder"))


def test_evidence_of_all_three_baselines_is_found_again(folder: Path) -> None:
    found = recompute(folder)
    assert found.differences == ()
    assert found.verdict.verdict == "passed"
    rules = [finding.rule for finding in found.verdict.findings]
    assert "chrf superior to retrieval" in rules
    assert "bleu not inferior to retrieval" in rules
    assert set(read_evidence(folder / "evidence.parquet").prefixes) == {
        "few_shot",
        "retrieval",
    }


def change_retrieved(**changes: object) -> Change:
    def change(folder: Path) -> None:
        record = Retrieved.read(folder / RETRIEVED)
        record.model_copy(update=changes).write(folder / RETRIEVED)

    return change


def change_examples(folder: Path) -> None:
    CHOICE.model_copy(update={"examples": CHOICE.examples[:1]}).write(folder / FEW_SHOT)


def forget_train(folder: Path) -> None:
    path = folder / "validation_report.json"
    report = ValidationReport.read(path)
    rest = {name: file for name, file in report.splits.items() if name != "train"}
    report.model_copy(update={"splits": rest}).write(path)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            change_examples,
            f"evidence.few_shot: it was answered after others than {FEW_SHOT}",
        ),
        (change_retrieved(rows=99), "evidence.retrieval: it was answered after others"),
        (change_retrieved(train_sha256="8" * 64), "its index is not the training rows"),
        (forget_train, "its index is not the training rows"),
        (change_retrieved(found={}), "it is about other prompts than the evidence"),
        (change_retrieved(dev_nats_per_token={1: 0.9, 2: 1.0}), "and 1 are the best"),
        (
            change_retrieved(examples=1),
            "2 rows stand before a prompt, and 1 were chosen",
        ),
    ],
)
def test_other_examples_than_the_evidence_names_are_a_difference(
    folder: Path, change: Change, sentence: str
) -> None:
    change(folder)
    differences = recompute(folder).differences
    assert any(sentence in each for each in differences), differences


@pytest.mark.parametrize("name", [FEW_SHOT, RETRIEVED])
def test_examples_that_are_missing_are_an_error(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(DamagedFile, match=name):
        recompute(folder)


def test_a_policy_that_asks_for_retrieval_passes_nothing_that_was_not_compared_with_it(
    scored_folder: Path, tmp_path: Path
) -> None:
    text = (scored_folder / "policy.yaml").read_text(encoding="utf-8")
    policy = tmp_path / "policy.yaml"
    policy.write_text(text.replace("primary: chrf\n", ASKS), encoding="utf-8")
    assert load_policy(policy).gates.screen.baselines[-1] == "retrieval"
    verdict = rescreen(scored_folder, policy)
    assert verdict.verdict == "rejected"
    (finding,) = [
        each for each in verdict.findings if each.rule == "chrf superior to retrieval"
    ]
    assert finding.outcome == "rejected"
    assert "no valid comparison with retrieval" in finding.text


def test_an_adapter_that_retrieval_beats_is_no_finalist(tmp_path: Path) -> None:
    trial = trials.trial(
        {
            "base": (trials.wrong, 4.0),
            "few_shot": (trials.wrong, 3.0),
            "retrieval": (lambda prompt, _: prompt.references[0], 2.8),
            "adapter": (trials.right, 2.0),
        }
    )
    # Whether or not the policy of now asks for it: what was compared counts.
    card = trials.write_folder(tmp_path, trial)
    verdict = trials.write_verdict(tmp_path, card)
    assert verdict.verdict == "rejected"


def claim(few_shot: FixedPrompt) -> Change:
    """Record the candidate as a prompt that is the few-shot baseline itself."""

    def change(folder: Path) -> None:
        card = Scorecard.read(folder / "scorecard.json")
        prompt = {
            "lora": None,
            "steps": 0,
            "moved": 0.0,
            "prompt": few_shot.record("few_shot"),
        }
        adapter = card.adapter.model_copy(update=prompt)
        trials.write_verdict(folder, card.model_copy(update={"adapter": adapter}))

    return change


def test_a_prompt_that_is_the_few_shot_baseline_is_not_compared_with_itself(
    folder: Path,
) -> None:
    claim(FixedPrompt(examples=CHOICE.examples))(folder)
    found = recompute(folder)
    assert found.differences == ()
    rules = [finding.rule for finding in found.verdict.findings]
    assert not any("few_shot" in rule for rule in rules)
    assert {"chrf superior to base", "chrf superior to retrieval"} <= set(rules)


@pytest.mark.parametrize(
    "other",
    [
        FixedPrompt(system="x", examples=CHOICE.examples),
        FixedPrompt(system="x"),
    ],
)
def test_a_prompt_that_only_claims_to_be_the_baseline_is_named(
    folder: Path, other: FixedPrompt
) -> None:
    claim(other)(folder)
    differences = recompute(folder).differences
    assert any("adapter.prompt: it is not the few-shot" in each for each in differences)
