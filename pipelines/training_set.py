"""Reading what `admit` answered: the stages after it go on with a training set and with nothing else."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from pipelines.dataset import TrainingSet
from pipelines.errors import DamagedFile, GateNotPassed
from pipelines.verdict import Rejection, Undecided

VERDICT = Path("data/admit/verdict.json")
_ADMISSION: TypeAdapter[TrainingSet | Rejection | Undecided] = TypeAdapter(
    Annotated[TrainingSet | Rejection | Undecided, Field(discriminator="verdict")]
)


def read_admission(path: Path = VERDICT) -> TrainingSet | Rejection | Undecided:
    """What `admit` answered; a missing or forged file is `DamagedFile`, never a pass."""
    try:
        return _ADMISSION.validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError) as error:
        raise DamagedFile(f"{path} holds no verdict. Run `dvc repro admit`.") from error


def read_training_set(path: Path = VERDICT) -> TrainingSet:
    """The admitted rows; anything but a pass is refused."""
    admission = read_admission(path)
    if not isinstance(admission, TrainingSet):
        raise GateNotPassed(f"{path} says {admission.verdict}: {admission.findings[0].text}. Mend the data; nothing is trained on it.")
    return admission
