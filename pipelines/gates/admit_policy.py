"""The limits on data before training, apart from the rest of a policy.

So the stages before training do not depend on the metrics, which the rest of a policy names.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Protocol

import yaml
from pydantic import Field, ValidationError

from core.errors import ParameterError
from core.value import Settable, Value, first_problem

HALF = 0.5
"""A share or a loss above half of the whole is not small."""
UpToHalf = Annotated[float, Field(ge=0, le=HALF)]
Minima = dict[str, Annotated[int, Field(ge=1)]]


class AdmitPolicy(Settable):
    """Limits on data before training."""

    max_quarantine_share: UpToHalf
    max_overlap: Annotated[int, Field(ge=0)] = Field(
        description="Held-out prompts that train or dev may repeat."
    )
    min_rows: Minima = Field(description="Distinct rows a split needs.")
    min_groups: Minima = Field(
        description="Groups, and distinct contents, that a split needs: statistics count clusters."
    )
    licence_required: bool
    # Under five rows a rate says more about single people than about a group.
    min_group_size: Annotated[int, Field(ge=5)] = Field(
        description="Rows of a sensitive group below which nothing is said."
    )
    max_demographic_parity_difference: UpToHalf
    small_groups: tuple[str, ...] = Field(
        default=(),
        description="Sensitive groups that are known to be too small; all others are compared.",
    )


class AdmitLimits(Value):
    """The first gate's part of a policy, with the digest of the whole file."""

    sha256: str
    admit: AdmitPolicy


class Limits(Protocol):
    """What the first gate judges by: a whole policy, or its own part of one."""

    @property
    def sha256(self) -> str:
        """Digest of the policy's file."""

    @property
    def admit(self) -> AdmitPolicy:
        """The limits."""


def load_admit_limits(path: Path) -> AdmitLimits:
    """Read the first gate's part of a policy; `ParameterError` where it is missing or wrong.

    The rest of the file is not looked at.
    """
    with explained(path):
        document = read_document(path)
        admit = document.content["admit"]
        return AdmitLimits(
            sha256=document.sha256,
            admit=AdmitPolicy.model_validate(admit),
        )


class PolicyDocument(NamedTuple):
    """What a policy's file says, and the digest of the very bytes that say it."""

    sha256: str
    content: Any


def read_document(path: Path) -> PolicyDocument:
    """Read the YAML of a policy's file."""
    # Once: a file that is edited meanwhile must not lend its digest to other limits.
    text = path.read_bytes()
    return PolicyDocument(
        sha256=hashlib.sha256(text).hexdigest(),
        content=yaml.safe_load(text.decode("utf-8")),
    )


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Say of whatever ends the block that nothing passes without that policy."""
    try:
        yield
    except ValidationError as error:
        problem = first_problem(error)
        raise ParameterError(
            f"The policy {path} does not fit: {problem}. "
            "Fix it: without a policy nothing passes."
        ) from error
    # yaml raises a ValueError for the date 2024-13-45.
    except (
        OSError,
        ValueError,
        LookupError,
        TypeError,
        RecursionError,
        yaml.YAMLError,
    ) as error:
        kind = type(error).__name__
        raise ParameterError(
            f"The policy {path} cannot be read ({kind}). "
            "Without a policy nothing passes: bring it back."
        ) from error
