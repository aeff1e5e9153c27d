"""A stored verdict is found again under the settings of metrics that it was reached with."""

from pathlib import Path

import pytest
import yaml

from core.value import FileDigest
from pipelines.scoring.evidence_file import read_evidence, write_evidence
from pipelines.stages.score import score
from pipelines.values.evidence import Scorecard
from pipelines.values.metric_settings import BleuSettings, MetricSettings
from pipelines.values.params import override
from registry.release.recompute import recompute
from tests.support import trials

CHAR = MetricSettings(bleu=BleuSettings(tokenize="char"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What a run left that was scored with BLEU over characters."""
    card = trials.write_folder(tmp_path)
    override(tmp_path / "params.yaml", {"score.bleu.tokenize": "char"})
    policy = tmp_path / "policy.yaml"
    pinned = policy.read_text(encoding="utf-8").replace(
        "  guardrails:", '  signatures: {bleu: "tok:char"}\n  guardrails:'
    )
    policy.write_text(pinned, encoding="utf-8")
    again = score(trials.trial(), trials.params(bleu=CHAR.bleu), 20, tmp_path)
    kept = {"held_out_sha256", "dataset_digest"}
    whole = again.model_copy(update={name: getattr(card, name) for name in kept})
    trials.write_verdict(tmp_path, whole)
    return tmp_path


def with_settings(folder: Path, settings: MetricSettings | None) -> None:
    """Have the evidence name these settings, with a digest that fits."""
    path = folder / "evidence.parquet"
    evidence = read_evidence(path).model_copy(update={"settings": settings})
    write_evidence(path, evidence)
    card = Scorecard.read(folder / "scorecard.json")
    digest = card.evidence.model_copy(update={"sha256": FileDigest.of(path).sha256})
    trials.write_verdict(folder, card.model_copy(update={"evidence": digest}))


def test_a_verdict_under_a_setting_of_its_own_is_found_again(folder: Path) -> None:
    found = recompute(folder)
    assert found.differences == ()
    assert found.verdict.verdict == "passed"


@pytest.mark.parametrize("forged", [MetricSettings(), None])
def test_evidence_that_names_other_settings_than_it_was_counted_under_is_named(
    folder: Path, forged: MetricSettings | None
) -> None:
    with_settings(folder, forged)
    told = recompute(folder).differences
    stored = "no settings" if forged is None else '{"bleu":{"tokenize":"13a"'
    assert any(
        each.startswith(f"settings: the evidence was counted under {stored}")
        and 'params.yaml has {"bleu":{"tokenize":"char"' in each
        for each in told
    )
    # Its statistics are not those of that tokenizer, either.
    assert any("statistics.bleu" in each for each in told)


def test_without_held_out_rows_settings_are_compared_all_the_same(folder: Path) -> None:
    (folder / "held_out.jsonl").unlink()
    with_settings(folder, MetricSettings())
    told = recompute(folder).differences
    assert any(each.startswith("settings: ") for each in told)


def test_a_folder_from_before_there_were_settings_is_found_again(
    tmp_path: Path,
) -> None:
    trials.write_folder(tmp_path)
    with_settings(tmp_path, None)
    # The parameters state them: so the evidence was made to look older than it is.
    (told,) = recompute(tmp_path).differences
    assert told.startswith("settings: the evidence was counted under no settings")
    path = tmp_path / "params.yaml"
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    del document["score"]["bleu"]
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    found = recompute(tmp_path)
    assert found.differences == ()
    assert found.verdict.verdict == "passed"
