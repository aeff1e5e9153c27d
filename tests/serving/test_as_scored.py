"""What OpenVINO scored is loaded in OpenVINO, in that version, or the reason is said."""

import json
import shutil
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from core.errors import ServingError
from pipelines.engines import OPENVINO, TRANSFORMERS
from serving.load import load_engine
from serving.package import open_package
from serving.regenerate import regenerate
from tests.support.in_engine import say_engine, score_in_openvino
from tests.support.running_engine import Served
from tests.support.tiny import pack

HERE = version(OPENVINO)


@pytest.fixture(scope="module")
def by_openvino(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Served:
    """A package that OpenVINO scored."""
    package = tmp_path_factory.mktemp("scored") / "package"
    shutil.copytree(served.package, package)
    score_in_openvino(package, served.base_folder)
    return replace(served, package=package)


@pytest.fixture
def other(served: Served, tmp_path: Path) -> Served:
    """A package that a test may change."""
    package = Path(shutil.copytree(served.package, tmp_path / "package"))
    return replace(served, package=package)


@pytest.mark.ci
def test_what_openvino_scored_is_loaded_in_openvino_by_itself(
    by_openvino: Served,
) -> None:
    scored = open_package(by_openvino.package, by_openvino.base).verdict.spec
    assert scored.engine == OPENVINO
    engine = load_engine(by_openvino.config)
    assert engine.specs["tuned"] == scored
    assert engine.specs["tiny"] == scored.with_adapter(None)
    engine.close()


@pytest.mark.ci
def test_transformers_loads_it_where_it_is_named_and_says_that_it_is_another(
    by_openvino: Served,
) -> None:
    scored = open_package(by_openvino.package, by_openvino.base).verdict.spec
    engine = load_engine(replace(by_openvino.config, engine=TRANSFORMERS))
    assert scored.is_computed_otherwise(engine.specs["tuned"])
    engine.close()


def test_another_version_of_openvino_than_the_one_that_scored_is_refused(
    other: Served,
) -> None:
    say_engine(other.package, OPENVINO, "2025.0.0")
    with pytest.raises(
        ServingError, match=rf"engine_version is {HERE}, not 2025\.0\.0\. Serve it as"
    ):
        load_engine(other.config)


def test_an_engine_that_does_not_exist_cannot_have_scored(other: Served) -> None:
    say_engine(other.package, "onnx", "1")
    with pytest.raises(ServingError, match="was scored by onnx, and there are"):
        load_engine(other.config)


def test_where_openvino_is_not_installed_nothing_else_answers_by_itself(
    other: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    say_engine(other.package, OPENVINO, HERE)

    def find_nothing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("pipelines.engines.installed.version", find_nothing)
    with pytest.raises(
        ServingError, match=r"scored by openvino.*openvino is not installed here"
    ):
        load_engine(other.config)


def test_what_openvino_does_not_take_is_not_answered_by_transformers(
    other: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    say_engine(other.package, OPENVINO, HERE)
    verdict = other.package / "verdict.json"
    fields = json.loads(verdict.read_text())
    fields["spec"]["precision"] = "bfloat16"
    verdict.write_text(json.dumps(fields))
    say_engine(other.package, OPENVINO, HERE)
    with pytest.raises(ServingError, match="OpenVINO does not take tiny: it computes"):
        load_engine(replace(other.config, precision="bfloat16"))


def test_what_transformers_scored_still_has_to_be_of_this_version_of_it(
    other: Served,
) -> None:
    say_engine(other.package, TRANSFORMERS, "4.0.0")
    with pytest.raises(ServingError, match=r"engine_version is .*, not 4\.0\.0"):
        load_engine(replace(other.config, engine=OPENVINO))


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("precision", "bfloat16", "openvino has no bfloat16"),
        ("default_max_tokens", 0, "greater than or equal to 1"),
        ("engine", "onnx", "was scored by onnx, which this version"),
    ],
)
def test_what_no_run_scores_so_is_not_regenerated(
    other: Served, tmp_path: Path, field: str, value: object, reason: str
) -> None:
    path = other.package / "verdict.json"
    verdict = json.loads(path.read_text())
    own = {"engine": OPENVINO, "engine_version": HERE, field: value}
    verdict["spec"] |= own
    path.write_text(json.dumps(verdict))
    pack(other.package)
    with pytest.raises(ServingError, match=reason):
        regenerate(other.package, 1, tmp_path)
