"""The form that every value has: frozen, closed, without NaN, JSON between processes."""

from pathlib import Path
from typing import Any, Self, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from core.errors import DamagedFile
from core.files import digest_of_json, sha256_of, write_text


class Value(BaseModel):
    """A frozen, closed record.

    NaN and Inf are refused: `nan < limit` is False, so a NaN would pass a check.
    """

    # extra: a field that is misspelt, or of a newer version, must not be dropped in silence.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a value that `write` wrote; `DamagedFile` where the file holds anything else."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError as error:
            raise DamagedFile(
                f"{path} does not exist. Run the stage that writes it: `dvc repro`."
            ) from error
        except OSError as error:
            raise DamagedFile(
                f"{path} cannot be read ({type(error).__name__}). "
                "Bring back the file that was stored there."
            ) from error
        except ValidationError as error:
            problem = first_problem(error)
            raise DamagedFile(
                f"{path} is not a whole {cls.__name__}: {problem}. Run its stage again."
            ) from error

    def write(self, path: Path) -> None:
        """Write as indented JSON, whole or not at all."""
        text = self.model_dump_json(indent=1)
        write_text(path, text + "\n")

    def content_sha256(self) -> str:
        """SHA-256 of the value in canonical JSON."""
        document = self.model_dump(mode="json")
        return digest_of_json(document)


class Settable(Value):
    """A value that people write as YAML.

    `yes`, `on` and `true` are booleans there, and none of them is taken for the number 1.
    """

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_boolean_for_number(cls, setting: Any, field: ValidationInfo) -> Any:
        expected = cls.model_fields[str(field.field_name)].annotation
        is_table = get_origin(expected) is dict and isinstance(setting, dict)
        entries = setting.values() if is_table else (setting,)
        has_boolean = any(isinstance(entry, bool) for entry in entries)
        # pydantic would turn True into 1 where a number is expected.
        if expected is not bool and has_boolean:
            raise PydanticCustomError(
                "boolean", "Input is a yes or a no, where neither is meant"
            )
        return setting


class FileDigest(Value):
    """A file that is too heavy to carry: its path and what it must hash to."""

    path: str
    sha256: str

    @classmethod
    def of(cls, path: Path) -> Self:
        """The digest of the file as it is now."""
        sha256 = sha256_of(path)
        return cls(path=path.as_posix(), sha256=sha256)

    def checked(self, under: Path = Path()) -> Path:
        """The path below the folder `under`.

        `DamagedFile` where the file is missing, or its bytes are not the recorded ones.
        """
        path = under / self.path
        if not path.is_file():
            raise DamagedFile(
                f"{path} does not exist. Run the stage that writes it: `dvc repro`."
            )
        # Each time it is used: a file may change between two stages.
        if sha256_of(path) != self.sha256:
            raise DamagedFile(
                f"{path} has changed since it was recorded. Delete it and run the stage again."
            )
        return path


def first_problem(error: ValidationError) -> str:
    """The first thing that pydantic found, as `field: what is wrong`."""
    problem = error.errors(include_url=False)[0]
    # What a check of ours says is a sentence of its own.
    message = str(problem["msg"]).removeprefix("Value error, ")
    parts = [str(part) for part in problem["loc"]]
    field = ".".join(parts)
    if not field:
        # A check of the whole value belongs to no field.
        return message
    return f"{field}: {message}"
