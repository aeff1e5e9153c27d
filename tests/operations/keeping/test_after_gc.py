"""A judged run, after everything that may go is gone.

The same command still finds it, and so does its cache.
"""

import shutil
from pathlib import Path

import pytest

from registry.mlflow.relocate import relocate
from tests.operations.keeping.test_gc import AT_ONCE, age
from tests.support.journey import Checkout, Journey, invoke, run_arguments


@pytest.mark.slow
def test_after_a_clean_up_the_same_run_is_still_known_and_nothing_is_trained_again(
    judged: Journey, empty_mlflow: Path, tmp_path: Path
) -> None:
    root = tmp_path / "assay"
    shutil.copytree(judged.checkout.root, root, symlinks=True)
    checkout = Checkout(root, judged.checkout.environment)
    relocate(checkout.home / "mlflow.db", judged.checkout.home, checkout.home)
    age(checkout.home)
    (tmp_path / "retention.yaml").write_text(AT_ONCE.model_dump_json())
    cleared = invoke(
        checkout, "gc", "--apply", "--json", "--policy", tmp_path / "retention.yaml"
    )
    assert cleared.code == 0, cleared.err
    assert cleared.last["gone"]["checkpoints"]
    known = invoke(checkout, *run_arguments(judged.data, judged.base))
    assert (known.last["version"], known.last["unchanged"]) == ("1", True)
    shutil.copyfile(empty_mlflow, checkout.home / "mlflow.db")
    again = invoke(checkout, *run_arguments(judged.data, judged.base))
    assert (again.last["verdict"], again.last["unchanged"]) == ("passed", False)
    assert not list((checkout.home / "scratch").glob("*/checkpoint-*"))
