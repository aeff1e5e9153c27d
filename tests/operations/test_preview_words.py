"""With which words a process that previews is started."""

from pathlib import Path

from operations.serve import Served
from pipelines.values.params import Params
from serving.__main__ import _parser
from tests.support.workshop import PARAMS


def in_openvino() -> Params:
    generation = PARAMS.generation.model_copy(update={"engine": "openvino"})
    return PARAMS.model_copy(update={"generation": generation})


def served(package: Path | None) -> Served:
    return Served(Path("base"), Path("base.json"), package, in_openvino(), "tuned")


def test_the_base_is_previewed_in_the_engine_that_a_run_would_score_it_in() -> None:
    words = _parser().parse_args(served(None).command(8080))
    assert (words.engine, words.package) == ("openvino", None)


def test_a_version_is_previewed_in_the_engine_that_its_package_names() -> None:
    words = _parser().parse_args(served(Path("package")).command(8080))
    assert (words.engine, words.package) == (None, Path("package"))
