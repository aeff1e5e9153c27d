"""`GET /v1/models`: what answers."""

from typing import Literal

from pydantic import Field

from pipelines.values.serving_spec import ServingSpec
from serving.openai_schema.fields import WireValue


class ModelCard(WireValue):
    """One name under which something answers, and what that is."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["assay"] = "assay"
    system_fingerprint: str
    spec: ServingSpec


class ModelList(WireValue):
    """`GET /v1/models`."""

    object: Literal["list"] = "list"
    data: tuple[ModelCard, ...]


class ReadyReport(WireValue):
    """`GET /readyz` of an endpoint that answers."""

    status: Literal["ready"] = "ready"
    generation: int | None = None
    """The last entry of the ledger that is obeyed; None: it follows none."""
    fingerprints: dict[str, str] = Field(default_factory=dict)
    """What answers, by name."""
    engines: dict[str, str] = Field(default_factory=dict)
    """What computes the answers, by name."""
