"""Versions that nobody trained or judged, made with MLflow's client and the files of the home.

None of them is served.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from core.project import Project
from pipelines.values.dataset import DatasetVersion
from registry.ledger.ledger import open_ledger
from registry.mlflow.home_store import open_store
from registry.mlflow.recorded import AUTHOR, PACKAGE
from tests.support.endpoint_system import Home, endpoint
from tests.support.forger import (
    Change,
    Forgery,
    answers_replaced_by_references,
    answers_with_a_letter_more,
    forge,
    known_answers_of_its_own,
    verdict_recomputed,
    weights_of_noise,
)
from tests.support.journey import Checkout, CommandResult, invoke
from tests.support.promoted import MODEL, waived_site
from tests.support.tiny import pack

pytestmark = pytest.mark.ci
NOISE: tuple[Change, ...] = (
    weights_of_noise,
    known_answers_of_its_own,
    verdict_recomputed,
)


@pytest.fixture(scope="module")
def site(
    recorded: Checkout, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Checkout]:
    """Version 1 is registered by a run, and an endpoint serves nothing: each test leaves it so."""
    site = fetched_site(recorded, tmp_path_factory.mktemp("site") / "assay")
    with endpoint(Home(site.home)):
        yield site


def fetched_site(recorded: Checkout, root: Path) -> Checkout:
    """What is missing is waived, and the package of version 1 is where promoting fetches it."""
    site = waived_site(recorded, root)
    store = open_store(Project(site.root, site.home))
    store.fetch(store.get_version(MODEL, "1"), package_of(site))
    return site


def package_of(site: Checkout) -> Path:
    version = MlflowClient(site.uri, site.uri).get_model_version(MODEL, "1")
    return site.home / "packages" / version.tags[PACKAGE]


def promote(site: Checkout, version: str) -> CommandResult:
    return invoke(
        site, "promote", version, "--model", MODEL, "--reason", "it is better"
    )


def adopt(site: Checkout, version: str) -> CommandResult:
    return invoke(
        site,
        "adopt",
        version,
        "--model",
        MODEL,
        "--reason",
        "I know where it came from",
    )


def serves_nothing(site: Checkout) -> bool:
    return open_ledger(site.home).state().model(MODEL).current is None


def trained_on_what_judges(forgery: Forgery) -> None:
    """What a run under a lax policy leaves.

    Held-out prompts among the training rows, and a policy that allows it.
    """
    path = forgery.folder / "dataset.json"
    DatasetVersion.read(path).model_copy(
        update={"overlap": {"prompts": 60, "rows": 60}}
    ).write(path)
    policy = forgery.folder / "policy.yaml"
    text = policy.read_text(encoding="utf-8")
    assert "max_overlap: 0\n" in text
    policy.write_text(
        text.replace("max_overlap: 0\n", "max_overlap: 100000\n"), encoding="utf-8"
    )
    verdict_recomputed(forgery)


def test_weights_that_nobody_trained_are_no_candidate(
    site: Checkout, tmp_path: Path
) -> None:
    version = forge(site, MODEL, tmp_path, *NOISE)
    result = promote(site, version)
    assert result.code in {3, 4}, result.out + result.err
    assert (
        f"The ledger does not say where version {version} of {MODEL} came from"
        in result.out
    )
    assert serves_nothing(site)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (NOISE, "known answer 1 is not what was scored"),
        ((weights_of_noise, verdict_recomputed), "0 of 8 known answers"),
        (
            (weights_of_noise, answers_replaced_by_references, verdict_recomputed),
            "known answers",
        ),
        ((answers_with_a_letter_more, verdict_recomputed), "answers"),
        ((trained_on_what_judges,), "60 held-out prompts found in train or dev"),
    ],
    ids=[
        "own known answers",
        "evidence of another",
        "perfect evidence",
        "its own weights, other answers",
        "a lax policy",
    ],
)
def test_a_forged_version_that_somebody_answers_for_is_not_served_either(
    site: Checkout, tmp_path: Path, changes: tuple[Change, ...], reason: str
) -> None:
    version = forge(site, MODEL, tmp_path, *changes)
    adopted = adopt(site, version)
    assert adopted.code == 0, adopted.err
    result = promote(site, version)
    assert result.code != 0, result.out
    assert reason in result.out + result.err
    assert serves_nothing(site)


def test_a_good_version_whose_bytes_and_tag_were_exchanged_is_not_what_was_registered(
    site: Checkout, tmp_path: Path
) -> None:
    client = MlflowClient(site.uri, site.uri)
    version = forge(site, MODEL, tmp_path, *NOISE)
    forged, good = (
        client.get_model_version(MODEL, number) for number in (version, "1")
    )
    places = [
        Path(
            client.get_model_version_download_uri(MODEL, number).removeprefix("file://")
        )
        for number in (version, "1")
    ]
    kept = shutil.copytree(places[1], tmp_path / "kept")
    shutil.rmtree(places[1])
    shutil.copytree(places[0], places[1])
    client.set_model_version_tag(MODEL, "1", PACKAGE, forged.tags[PACKAGE])
    try:
        result = promote(site, "1")
        assert result.code == 3, result.out + result.err
        assert "registered package" in result.out
        assert serves_nothing(site)
    finally:
        client.set_model_version_tag(MODEL, "1", PACKAGE, good.tags[PACKAGE])
        shutil.rmtree(places[1])
        shutil.copytree(kept, places[1])


def test_what_a_run_registered_is_served_and_still_counts_while_the_base_answers(
    recorded: Checkout, tmp_path: Path
) -> None:
    site = fetched_site(recorded, tmp_path / "assay")
    client = MlflowClient(site.uri, site.uri)
    run = client.get_model_version(MODEL, "1").run_id
    assert run is not None
    client.set_tag(run, AUTHOR, "somebody-else")
    registration = open_ledger(site.home).state().registration(MODEL, "1")
    assert registration is not None
    again = invoke(site, "gate", package_of(site), "--regenerate", "20")
    assert again.code == 0, again.out + again.err
    assert "20 of 20 drawn answers are what was scored" in again.out
    with endpoint(Home(site.home)) as running:
        result = promote(site, "1")
        assert result.code == 0, result.out + result.err
        assert (
            f"Entry 3 of the ledger holds these bytes: trained for {registration.by}"
            in result.out
        )
        assert "somebody-else" not in result.out
        assert running.ask(MODEL).json()["model"] == MODEL
        nothing_is_compared_with_nothing(site, tmp_path)


def nothing_is_compared_with_nothing(site: Checkout, scratch: Path) -> None:
    """While the base answers, the version that had full traffic last is still what counts."""
    brake = invoke(site, "serve-base", "--model", MODEL, "--reason", "an incident")
    assert brake.code == 0, brake.err
    version = forge(site, MODEL, scratch)
    assert adopt(site, version).code == 0
    result = promote(site, version)
    assert result.code == 4, result.out + result.err
    assert (
        "The evidence compares with no champion, version 1 had full traffic last"
        in result.out
    )


def test_evidence_that_other_weights_gave_does_not_regenerate(
    site: Checkout, tmp_path: Path
) -> None:
    shutil.copytree(package_of(site), tmp_path / "noise")
    forgery = Forgery(tmp_path / "noise", site.home)
    for change in NOISE:
        change(forgery)
    pack(forgery.folder)
    result = invoke(site, "gate", forgery.folder, "--regenerate", "10")
    assert result.code == 1
    assert (
        "of 10 drawn answers are what was scored; the policy asks for 75%" in result.out
    )
