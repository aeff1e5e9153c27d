"""The anchor keeps small losses from adding up; it need not be beaten again."""

from pathlib import Path

from pipelines.stages.score import score
from pipelines.stages.screen import rules_of
from pipelines.values.evidence import System
from tests.support import trials

WITH_ANCHOR: dict[System, tuple[trials.Answer, float]] = {
    "adapter": (trials.right, 1.0),
    "base": (trials.wrong, 3.0),
    "few_shot": (trials.wrong, 3.0),
    "anchor": (trials.right, 1.0),
}


def test_nothing_must_be_superior_to_the_anchor(tmp_path: Path) -> None:
    card = score(trials.trial(WITH_ANCHOR), trials.params(), 20, tmp_path)
    rules = rules_of(card, trials.policy())
    superior = [rule for rule in rules if "superior to" in rule]
    assert superior == ["chrf superior to base", "chrf superior to few_shot"]
    assert "bleu not inferior to anchor" in rules
