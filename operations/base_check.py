"""`assay base check`: what Assay makes of a base model, without a run."""

import tempfile
from pathlib import Path

from core.environment import set_library_environment
from core.errors import UnreadableData
from core.project import find_project
from core.settings import Settings
from flows.run.request import TrainRequest, overrides
from pipelines import layout
from pipelines.engines.scored_model import check_takes
from pipelines.models.base_check import check_base
from pipelines.models.base_store import locate_base_model
from pipelines.models.comparator_bases import PlacedBase
from pipelines.models.language_model import load_language_model
from pipelines.stages.base_model import base_model
from pipelines.stages.collect import RowSource, collect
from pipelines.values.conformance import Conformance
from pipelines.values.dataset import Row, read_rows
from pipelines.values.params import DataParams, preview_override


def check_base_folder(request: TrainRequest) -> Conformance:
    """Check the request's base model on its rows, or on questions of our own without any.

    Nothing is trained and nothing is kept. `AssayError` of the kind that a run would end with.
    """
    set_library_environment()
    project = find_project(Settings().home)
    file = project.root / layout.PARAMS
    params = preview_override(file, overrides(request, file))
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        manifest, template = base_model(params.base_model, scratch)
        weights = locate_base_model(manifest, scratch)
        precision = params.generation.precision
        language = load_language_model(
            manifest,
            weights,
            template,
            precision,
        )
        rows = {}
        if request.data is not None:
            rows["train"] = _read_file(request.data, params.data, scratch)
        conformance = check_base(manifest, language, rows, params)
        # The engine that is to score loads its weights once more.
        del language
        check_takes(PlacedBase(manifest, weights, template), params.generation)
        return conformance


def _read_file(path: Path, data: DataParams, scratch: Path) -> tuple[Row, ...]:
    # Read as a run would, so that a file that passes here passes there.
    source = RowSource(
        kind="file",
        name=path.name,
        licence=None,
        rows=path,
    )
    collection = collect(source, data, scratch)
    rows = read_rows(Path(collection.rows.path))
    if not rows:
        raise UnreadableData(
            f"No row of {path} can be used. `assay data inspect {path}` says why."
        )
    return rows
