"""What a new adapter is compared with follows the ledger, also where MLflow's alias lags behind."""

import shutil
from pathlib import Path

from mlflow import MlflowClient

from flows.run.comparators import find_anchor, find_anchor_adapter, find_champion
from flows.run.previous import outcome_of_recipe
from pipelines.values.evidence import Adapter
from registry.ledger.entries import Revoked
from registry.ledger.ledger import open_ledger
from registry.mlflow.recorded import ANCHOR, CHAMPION, RECIPE, Page, Submission
from tests.operations.keeping.conftest import MODEL, Kept
from tests.support.journey import Package


def revoke_version(kept: Kept) -> None:
    ledger = open_ledger(kept.home)
    reason = ledger.remember("it insults people")
    number = kept.version.version
    body = Revoked(model=MODEL, version=number, by="olga", reason_sha256=reason)
    ledger.append(body, ledger.state())


def test_what_serves_is_the_comparator_also_without_the_alias(kept: Kept) -> None:
    kept.store.move_alias(MODEL, CHAMPION, None)
    champion = find_champion(kept.store, MODEL, kept.home)
    assert champion is not None
    assert champion.version == kept.version.version


def test_a_revoked_champion_is_no_comparator_whatever_the_alias_says(
    kept: Kept,
) -> None:
    revoke_version(kept)
    kept.store.move_alias(MODEL, CHAMPION, kept.version.version)
    assert find_champion(kept.store, MODEL, kept.home) is None


def test_a_recipe_of_a_revoked_champion_has_something_to_do(kept: Kept) -> None:
    kept.store.move_alias(MODEL, CHAMPION, kept.version.version)
    recipe = "r" * 64
    client = MlflowClient(f"sqlite:///{kept.home / 'mlflow.db'}")
    client.set_tag(kept.version.run_id, RECIPE, recipe)
    assert outcome_of_recipe(kept.store, MODEL, recipe, kept.home) is not None
    revoke_version(kept)
    assert outcome_of_recipe(kept.store, MODEL, recipe, kept.home) is None


def test_what_never_served_is_no_anchor_of_its_own(
    kept: Kept, package: Package, tmp_path: Path
) -> None:
    first = package.finalist.adapter.sha256
    second = "d" * 64
    number = register_another(kept, package, second, tmp_path)
    state = open_ledger(kept.home).state().model(MODEL)

    def anchor_of(candidate: str) -> str | None:
        found = find_anchor_adapter(kept.store, MODEL, kept.home, state, candidate)
        return None if found is None else found.sha256

    assert (anchor_of(first), anchor_of(second)) == (first, first)
    kept.store.move_alias(MODEL, ANCHOR, number)
    # A later version is measured by it; itself it is measured by the first champion.
    assert (anchor_of("e" * 64), anchor_of(second)) == (second, first)
    kept.store.move_alias(MODEL, ANCHOR, kept.version.version)
    assert anchor_of(first) == first
    assert find_anchor(kept.store, MODEL, kept.home) == kept.version


def register_another(kept: Kept, package: Package, adapter: str, folder: Path) -> str:
    """Register another adapter, whose record is enough here; gives the number."""
    another = Path(shutil.copytree(package.folder, folder / "another"))
    made = Adapter.read(another / "adapter.json")
    made.model_copy(update={"sha256": adapter}).write(another / "adapter.json")
    submission = Submission(
        run=kept.store.runs.begin("other work", "name", {}),
        package=another,
        model=MODEL,
        logical_run="other work",
        page=Page(description="", tags={}),
    )
    return kept.store.register(package.finalist, submission).version


def test_a_model_that_was_never_released_is_compared_with_what_holds_the_alias(
    kept: Kept,
) -> None:
    kept.store.move_alias(MODEL, CHAMPION, kept.version.version)
    (kept.home / "ledger.db").unlink()
    for trace in (kept.home / "keys", kept.home / "endpoint", kept.home / "exports"):
        for path in trace.rglob("*"):
            if path.is_file():
                path.unlink()
    champion = find_champion(kept.store, MODEL, kept.home)
    assert champion is not None
