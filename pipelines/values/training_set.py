"""Reads the verdict of `admit`, and the training set, which later stages need to start."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from core.errors import DamagedFile, GateNotPassed
from pipelines import layout
from pipelines.values.dataset import TrainingSet
from pipelines.values.verdict import Admission, Rejection, Undecided

FOLDER = layout.TRAINING_SET
_ADMISSION: TypeAdapter[Admission | Rejection | Undecided] = TypeAdapter(
    Annotated[Admission | Rejection | Undecided, Field(discriminator="verdict")]
)


def read_admission(path: Path) -> Admission | Rejection | Undecided:
    """The verdict of `admit`; `DamagedFile` where it is missing or forged, never a pass."""
    try:
        return _ADMISSION.validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise DamagedFile(f"{path} holds no verdict. Run `dvc repro admit`.") from error


def read_training_set(folder: Path = FOLDER) -> TrainingSet:
    """The admitted rows; `GateNotPassed` where there are none.

    `admit` writes the file on a pass alone.
    """
    # Where it is missing, the verdict says why, so the message names that file.
    path = folder / "training_set.json"
    if not path.is_file():
        raise GateNotPassed(
            f"{path} does not exist: the data did not pass `admit`. "
            "Its reasons are in data/admit/verdict.json; fix the data."
        )
    return TrainingSet.read(path)
