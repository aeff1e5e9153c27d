"""The sealed reserve in real runs: a block is opened for what passed, once, and never again."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipelines.values.reserve import Confirmation
from registry.ledger.ledger import open_ledger
from registry.release.confirmed import FOLDER
from registry.release.recompute import recompute
from tests.support.journey import (
    Checkout,
    CommandResult,
    invoke,
    learnable_rows,
    make_checkout,
    run_arguments,
    write_rows,
)

pytestmark = pytest.mark.ci
MODEL = "letters-tiny"
ROWS = 480
"""About 120 groups are held out, of which half are sealed."""


@dataclass(frozen=True)
class Sealed:
    """A checkout whose policy seals a reserve, and its first run."""

    checkout: Checkout
    arguments: tuple[str | Path, ...]
    first: CommandResult

    def run(self, *more: str) -> CommandResult:
        return self.checkout.assay(*self.arguments, *more)

    def kinds(self) -> list[str]:
        entries = open_ledger(self.checkout.home).entries()
        return [entry.body.kind for entry in entries]


@pytest.fixture(scope="module")
def sealed(
    prefect: None,
    cloned: Path,
    empty_mlflow: Path,
    tiny_base: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Sealed:
    root = tmp_path_factory.mktemp("sealed")
    checkout = make_checkout(root / "assay", cloned, empty_mlflow)
    policy = checkout.root / "registry/policies/default.yaml"
    text = policy.read_text(encoding="utf-8")
    # Retrieval too: the block compares with whichever prompt came nearest.
    asks = "reserve: sealed\n  baselines: [base, few_shot, retrieval]"
    policy.write_text(text.replace("reserve: none", asks), encoding="utf-8")
    data = write_rows(root / "letters.jsonl", learnable_rows(ROWS))
    arguments = tuple(run_arguments(data, tiny_base))
    return Sealed(checkout, arguments, checkout.assay(*arguments))


def test_what_passes_is_confirmed_on_a_block_before_it_is_registered(
    sealed: Sealed,
) -> None:
    assert sealed.first.code == 0, sealed.first.out + sealed.first.err
    assert "Confirmation 1 of this year at level 0.0219 on" in sealed.first.out
    kinds = [kind for kind in sealed.kinds() if kind != "key_added"]
    assert kinds[:4] == ["opened", "block_opened", "block_closed", "registered"]


def test_the_ledger_says_what_the_block_showed(sealed: Sealed) -> None:
    (recorded,) = open_ledger(sealed.checkout.home).state().confirmations_of(MODEL)
    assert recorded.is_confirmed
    assert recorded.opened.number == 1
    # Whichever of them came nearer on the rows that judge every candidate.
    assert recorded.opened.against in {"few_shot", "retrieval"}
    assert "chrf against retrieval: better by" in sealed.first.out
    history = invoke(sealed.checkout, "history").out
    assert "confirmation 1 of the year begun, at level 0.0219" in history
    assert "confirmed by the block of entry" in history


def test_the_same_command_once_more_opens_nothing(sealed: Sealed) -> None:
    before = sealed.kinds()
    again = sealed.run()
    assert again.code == 0
    assert again.last["unchanged"]
    assert sealed.kinds() == before


def test_the_gate_before_release_sees_the_confirmation_in_the_ledger(
    sealed: Sealed,
) -> None:
    judged = invoke(sealed.checkout, "gate", "judge", f"models:/{MODEL}/1")
    assert "It was confirmed on the sealed block of entry" in judged.out
    page = sealed.checkout.versions()[0].description
    assert "Confirmation 1 of this year" in str(page)


def test_a_package_whose_confirmation_was_edited_does_not_follow_from_its_evidence(
    sealed: Sealed, tmp_path: Path
) -> None:
    # It fetches the package.
    judged = invoke(sealed.checkout, "gate", "judge", f"models:/{MODEL}/1")
    packages = sealed.checkout.home / "packages"
    assert packages.is_dir(), judged.out + judged.err
    (folder,) = [each for each in packages.iterdir() if each.is_dir()]
    whole = recompute(folder, project=sealed.checkout.root)
    assert whole.differences == ()
    edited = tmp_path / "edited"
    shutil.copytree(folder, edited)
    stored = edited / FOLDER / "confirmation.json"
    text = stored.read_text(encoding="utf-8")
    level = Confirmation.read(stored).block
    assert level is not None
    # A looser level than the ledger gave it: the bound would be another one.
    stored.write_text(text.replace(str(level.level), "0.4"), encoding="utf-8")
    differences = recompute(edited, project=sealed.checkout.root).differences
    assert any("confirmation" in each for each in differences)
    shutil.rmtree(edited / FOLDER)
    differences = recompute(edited, project=sealed.checkout.root).differences
    assert any("confirmation" in each for each in differences)


def test_another_candidate_finds_the_block_spent_and_judging_every_later_one(
    sealed: Sealed,
) -> None:
    other = sealed.run("--set", "train.seed=1")
    assert other.code == 4, other.out + other.err
    assert "No block of the sealed reserve is left" in other.out
    assert "groups more are needed" in other.out
    # Its rows stay out of the verdict's evidence no longer: they judge with the others.
    first, second = (run.last["scorecard"]["clusters"] for run in (sealed.first, other))
    assert second > first
