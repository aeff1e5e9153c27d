"""Other installations of Assay: where versions are sent, and whose ledgers are believed.

`environments.yaml` in the project's root, under version control:

```yaml
targets:
  prod: {mlflow: "https://mlflow.prod.example.org"}
receives_from:
  staging: {ledger_key: "4f1d…"}   # 64 digits: what `assay audit keys` prints there
```

Without the file nothing is sent, and nothing is received.
"""

from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from core.errors import ParameterError
from core.value import Value
from registry.ledger.entries import MODEL_NAME, Digest
from registry.release.people import Purpose, read_strictly

FILE = "environments.yaml"
Name = Annotated[str, Field(strict=True, pattern=MODEL_NAME)]
_PURPOSE = Purpose(
    "which installations there are",
    "nothing is sent or received",
    "targets",
)


def _check_address(address: str) -> str:
    # Over the network alone: another home's files are not sent to.
    parts = urlsplit(address)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise PydanticCustomError("address", "Write an address as https://HOST")
    # The file is under version control: a password would be in its history.
    # A password without a name has an empty one before it.
    if parts.username is not None:
        raise PydanticCustomError(
            "login", "Take the login out: `assay login --to NAME` asks for it"
        )
    return address.rstrip("/")


class Target(Value):
    """An installation that versions are sent to."""

    mlflow: Annotated[str, Field(strict=True), AfterValidator(_check_address)] = Field(
        description="The address of its MLflow, without a login."
    )


class Source(Value):
    """An installation whose ledger is believed."""

    ledger_key: Digest = Field(
        description="The id of its controller's key, as `assay audit keys` prints it there."
    )


class Environments(Value):
    """Every other installation that this one has to do with."""

    targets: dict[Name, Target] = Field(default_factory=dict)
    receives_from: dict[Name, Source] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check_keys(self) -> Self:
        names: dict[str, str] = {}
        for name, source in self.receives_from.items():
            other = names.setdefault(source.ledger_key, name)
            # One ledger has one name, so that what is known of it is known.
            if other != name:
                raise PydanticCustomError(
                    "key",
                    "{one} and {other} have one key",
                    {"one": other, "other": name},
                )
        return self

    def target(self, name: str) -> Target:
        """Where that installation is; `ParameterError` where the file does not name it."""
        found = self.targets.get(name)
        if found is not None:
            return found
        # Who mistyped a name finds it in the sentence.
        known = ", ".join(sorted(self.targets)) or "none"
        raise ParameterError(
            f"{FILE} in the project's root names no target {name[:60]!r} (it names {known}). "
            "Add its MLflow's address under `targets`."
        )


def read_environments(root: Path) -> Environments:
    """Read `environments.yaml` of a project's root; without it there are none.

    `ParameterError`, one sentence, where the file is there and cannot be taken at its word.
    """
    path = root / FILE
    environments = read_strictly(
        path,
        Environments,
        _PURPOSE,
    )
    # Nobody is believed by default.
    if environments is None:
        return Environments()
    return environments
