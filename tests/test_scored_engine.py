"""An engine from parameter to package: what one scored names it in all that follows.

A champion of another engine answers as its users know it.
"""

from pathlib import Path

import pytest

from pipelines.engines.installed import installed_version
from pipelines.scoring.evidence_file import read_evidence
from tests.support.journey import Checkout, Journey, invoke, run_arguments
from tests.support.scored_otherwise import (
    MODEL,
    champion_in,
    evidence_of,
    registered,
    run,
    run_against_usual,
)
from tests.support.tiny import make_tiny_base
from tests.support.vllm_environment import VLLM_HEAD_SIZE, find_or_make_vllm

IN_OPENVINO = ("--set", "generation.engine=openvino")
OTHERS = {"adapter", "base", "few_shot"}


def engines_in(folder: Path) -> dict[str, str]:
    makers = read_evidence(folder / "evidence.parquet").made_by
    return {system: spec.engine for system, spec in makers.items()}


@pytest.mark.ci
def test_what_openvino_scored_is_registered_and_regenerated_by_it(
    seeded: Checkout, judged: Journey
) -> None:
    package, spec = registered(seeded, run(seeded, judged, *IN_OPENVINO))
    assert spec.engine == "openvino"
    assert spec.engine_version == installed_version("openvino")
    assert engines_in(package) == dict.fromkeys(OTHERS, "openvino")


@pytest.mark.ci
def test_a_champion_answers_in_the_engine_that_its_users_get(
    seeded: Checkout, judged: Journey
) -> None:
    folder = run_against_usual(seeded, judged, *IN_OPENVINO)
    engine = champion_in(folder).engine
    assert engine is not None
    assert engine.name == "transformers"
    expected = {**dict.fromkeys(OTHERS, "openvino"), "champion": "transformers"}
    assert engines_in(folder) == expected


@pytest.mark.slow
def test_what_vllm_scored_names_vllm_whatever_the_verdict(
    seeded: Checkout,
    judged: Journey,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    python = find_or_make_vllm(tmp_path / "vllm")
    monkeypatch.setenv("ASSAY_VLLM_PYTHON", str(python))
    base = make_tiny_base(tmp_path / "wide", VLLM_HEAD_SIZE)
    arguments = run_arguments(judged.data, base, "--model", MODEL)
    result = invoke(seeded, *arguments, "--set", "generation.engine=vllm")
    assert engines_in(evidence_of(seeded, result)) == dict.fromkeys(OTHERS, "vllm")
