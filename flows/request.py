"""What a person or a schedule asks a training run for."""

from pathlib import Path
from typing import Any

from pydantic import Field

from pipelines.value import Value

_TEXT_METRICS = ("chrf", "bleu", "exact_match", "perplexity_per_token", "bits_per_byte")


class TrainRequest(Value):
    """Everything that `assay run` takes. What is None stays as params.yaml and the default policy say."""

    model: str = Field(default="cheat-smollm2", description="Name of the registered model.", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")
    data: Path | None = Field(default=None, description="Own rows: JSONL, CSV or Parquet.")
    licence: str = Field(default="LicenseRef-brought-by-user", description="SPDX identifier of the own rows' licence.")
    held_out: Path | None = Field(default=None, description="A fixed set to be judged on.")
    base_model: Path | None = Field(default=None, description="Folder of an own base model.")
    base_model_digest: str | None = Field(default=None, description="Digest of that folder.")
    chat_template: str | None = Field(default=None, description="Text of a Jinja chat template.")
    completion_mode: bool = False
    policy: Path | None = None
    settings: dict[str, Any] = Field(default_factory=dict, description="Overrides by dotted name.")

    @property
    def title(self) -> str:
        """Data and base in a few words: the name of the run."""
        data = self.data.stem if self.data else "cheat"
        base = self.base_model.name if self.base_model else "SmolLM2-135M"
        return f"{data} on {base}"

    def assignments(self) -> dict[str, Any]:
        """The request as overrides of params.yaml; explicit settings win."""
        chosen: dict[str, Any] = {}
        if self.data is not None:
            chosen |= {"data.source": "file", "data.licence": self.licence, "score.metrics": list(_TEXT_METRICS)}
            chosen |= {"generation.max_new_tokens": 64}
        if self.base_model is not None:
            folder = self.base_model.expanduser().resolve()
            chosen |= {
                "base_model.source": "folder",
                "base_model.id": folder.name,
                "base_model.path": str(folder),
                "base_model.digest": self.base_model_digest,
            }
        if self.chat_template is not None:
            chosen["base_model.chat_template"] = self.chat_template
        if self.completion_mode:
            chosen["base_model.completion_mode"] = True
        return chosen | self.settings
