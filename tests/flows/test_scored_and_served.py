"""A registered package names the configuration of its scoring, and answers the same again."""

from collections.abc import Iterator
from pathlib import Path
from queue import Queue

import pytest

from core.files import folder_digests
from pipelines.engines import Engine, Event, GenerationRequest, Piece
from pipelines.scoring.evidence_file import read_evidence
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.champion import ChampionInput
from pipelines.values.evidence import Scorecard
from registry.mlflow.recorded import SERVING_SPEC
from serving.load import EngineConfig, load_engine
from serving.package import Package, open_package
from tests.support.journey import Journey
from tests.support.waiting import SECONDS_AT_MOST

MODEL = "letters-tiny"


@pytest.fixture(scope="module")
def folder(judged: Journey, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The registered package, as MLflow gives it back."""
    store = judged.checkout.store
    return store.fetch(
        store.get_version(MODEL, "1"), tmp_path_factory.mktemp("fetched") / "package"
    )


@pytest.fixture(scope="module")
def package(folder: Path) -> Package:
    return open_package(folder, BaseModelManifest.read(folder / "base_model.json"))


@pytest.fixture(scope="module")
def engine(judged: Journey, folder: Path) -> Iterator[Engine]:
    engine = load_engine(EngineConfig(judged.base, folder / "base_model.json", folder))
    yield engine
    engine.close()


def answer(engine: Engine, request: GenerationRequest) -> str:
    events: Queue[Event] = Queue()
    engine.submit(request, events.put)
    text = ""
    while isinstance(event := events.get(timeout=SECONDS_AT_MOST), Piece):
        text += event.text
    return text


def test_version_page_scorecard_and_verdict_name_one_configuration(
    judged: Journey, folder: Path, package: Package
) -> None:
    (version,) = judged.checkout.versions(MODEL)
    spec = package.verdict.spec
    assert version.tags[SERVING_SPEC] == spec.fingerprint
    assert f"`{spec.fingerprint}`" in version.description
    assert f"`{spec.fingerprint}`" in (folder / "MODEL_CARD.md").read_text(
        encoding="utf-8"
    )
    assert Scorecard.read(folder / "scorecard.json").spec == spec
    assert (spec.adapter_sha256, spec.default_max_tokens) == (
        package.adapter.sha256,
        10,
    )


def test_the_known_answers_are_scored_ones(folder: Path, package: Package) -> None:
    predictions = [
        scored.row.prediction
        for scored in read_evidence(folder / "evidence.parquet").rows["adapter"]
    ]
    assert len(package.known_answers) == 8
    assert all(known.text in predictions for known in package.known_answers)
    assert "known_answers.jsonl" in folder_digests(folder)


def test_what_is_loaded_from_the_package_gives_the_known_answers(
    engine: Engine, package: Package
) -> None:
    asked = [
        GenerationRequest(
            "tuned", tuple(engine.prompt_ids(known.messages, "tuned")), known.max_tokens
        )
        for known in package.known_answers
    ]
    assert [answer(engine, request) for request in asked] == [
        known.text for known in package.known_answers
    ]
    assert engine.specs["tuned"].fingerprint == package.verdict.spec.fingerprint


def test_the_package_says_that_there_was_no_champion_to_be_compared_with(
    folder: Path,
) -> None:
    assert ChampionInput.read(folder / "champion.json") == ChampionInput(champion=None)
