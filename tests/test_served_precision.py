"""A precision from parameter to engine: what is scored in int8 is served in int8.

A champion in another precision answers as its users know it.
"""

from dataclasses import replace

import pytest

from core.errors import ServingError
from pipelines.models.base_store import locate_base_model
from pipelines.scoring.evidence_file import read_evidence
from pipelines.values.base_manifest import BaseModelManifest
from serving.load import EngineConfig, load_engine
from tests.support.journey import Checkout, Journey
from tests.support.scored_otherwise import (
    MODEL,
    champion_in,
    registered,
    run,
    run_against_usual,
)

pytestmark = pytest.mark.ci

IN_INT8 = ("--set", "generation.precision=int8")


def test_what_passed_in_int8_is_registered_regenerated_and_served_in_int8(
    seeded: Checkout, judged: Journey
) -> None:
    package, spec = registered(seeded, run(seeded, judged, *IN_INT8))
    assert spec.precision == "int8"
    base = BaseModelManifest.read(package / "base_model.json")
    folder = locate_base_model(base, seeded.home)
    config = EngineConfig(folder, package / "base_model.json", package, MODEL)
    engine = load_engine(config)
    assert engine.specs[MODEL] == spec
    engine.close()
    with pytest.raises(ServingError, match="precision is float32, not int8"):
        load_engine(replace(config, precision="float32"))


def test_a_champion_answers_in_the_precision_that_its_users_get(
    seeded: Checkout, judged: Journey
) -> None:
    folder = run_against_usual(seeded, judged, *IN_INT8)
    assert champion_in(folder).precision == "float32"
    makers = read_evidence(folder / "evidence.parquet").made_by
    precisions = {system: spec.precision for system, spec in makers.items()}
    others = {"adapter", "base", "few_shot"}
    assert precisions == {**dict.fromkeys(others, "int8"), "champion": "float32"}
