"""Adapters that several threads read at one moment."""

import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from core.errors import ServingError
from pipelines.engines.shared.skeleton import Skeleton
from pipelines.models.language_model import load_language_model
from tests.support.adapters import PLAIN, write_adapter
from tests.support.running_engine import Served
from tests.support.tiny import CHAT_TEMPLATE


@pytest.mark.ci
def test_an_adapter_without_all_its_matrices_is_refused_whatever_is_read_beside_it(
    served: Served, tmp_path: Path
) -> None:
    language = load_language_model(
        served.base, served.base_folder, CHAT_TEMPLATE, "float32", None
    )
    skeleton = Skeleton(language.model)
    folder = write_adapter(served.base_folder, tmp_path / "it", 5, PLAIN)
    weights = folder / "adapter_model.safetensors"
    _, *others = load_file(weights).items()
    save_file(dict(others), weights)

    def fact_of(_: int) -> str:
        try:
            skeleton.read(folder)
        except ServingError as error:
            return str(error)
        return "it was read"

    # As in a process that serves: a test by itself fails at any warning.
    with warnings.catch_warnings(), ThreadPoolExecutor(4) as pool:
        warnings.simplefilter("ignore")
        (fact,) = set(pool.map(fact_of, range(12)))
    assert "missing adapter keys" in fact
