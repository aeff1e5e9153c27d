"""A model whose base is replaced: the champion answers on its old base, the candidate on the new.

Two real bases with other tokens and other chat templates, trained for real.
"""

from pathlib import Path

import pytest

from pipelines.scoring.evidence_file import read_evidence
from pipelines.values.verdict import read_screen_verdict
from registry.mlflow.recorded import CHAMPION
from registry.release.recompute import recompute
from tests.support.journey import (
    Checkout,
    CommandResult,
    Journey,
    invoke,
    run_arguments,
    take_records,
)
from tests.support.other_tiny import make_other_base

pytestmark = pytest.mark.slow

MODEL = "letters-tiny"
PERPLEXITY = "perplexity_per_token not inferior to champion"


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_other_base(tmp_path_factory.mktemp("bases") / "other")


@pytest.fixture
def crowned(seeded: Checkout, judged: Journey) -> Checkout:
    """A checkout in which the judged version is champion, with the base that it answers on."""
    take_records(judged.checkout, seeded)
    seeded.store.move_alias(MODEL, CHAMPION, "1")
    return seeded


def run(
    checkout: Checkout, judged: Journey, base: Path, *more: str | Path
) -> CommandResult:
    return invoke(checkout, *run_arguments(judged.data, base, "--model", MODEL, *more))


def evidence_of(checkout: Checkout, result: CommandResult) -> Path:
    """The folder of a run's evidence."""
    run_id = result.last["mlflow_run"]
    folder = checkout.home / "evidence" / run_id
    return checkout.store.runs.fetch_evidence(run_id, folder)


def test_a_candidate_on_a_new_base_is_compared_with_the_champion_on_its_own(
    crowned: Checkout, judged: Journey, other: Path
) -> None:
    result = run(crowned, judged, other)
    # Both learn these rows, so that the new base need not be better.
    assert result.code in {0, 3, 4}, result.out + result.err
    folder = evidence_of(crowned, result)
    makers = read_evidence(folder / "evidence.parquet").made_by
    own, champion = makers["adapter"], makers["champion"]
    assert own.base_digest != champion.base_digest
    assert own.chat_template_sha256 != champion.chat_template_sha256
    assert makers["base"] == own.with_adapter(None)
    again = recompute(folder, project=crowned.root)
    assert again.differences == ()
    findings = {finding.rule: finding for finding in again.verdict.findings}
    assert "bits_per_byte judges instead" in findings[PERPLEXITY].text
    compared = {
        (comparison.metric, comparison.against)
        for comparison in read_screen_verdict(folder / "verdict.json").comparisons
    }
    assert ("bits_per_byte", "champion") in compared
    assert ("chrf", "champion") in compared
    assert ("perplexity_per_token", "champion") not in compared
    assert ("perplexity_per_token", "base") in compared
