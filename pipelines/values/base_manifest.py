"""A base model by reference."""

from pydantic import Field

from core.value import Value


class BaseModelManifest(Value):
    """A base model by reference: what its files must hash to, never the files themselves."""

    # For people and for the name under which the base answers; the digest decides.
    id: str
    revision: str
    digest: str = Field(description="SHA-256 over every file's digest.")
    files: dict[str, str]
    chat_template_sha256: str | None = Field(description="None: completion mode.")
    template_notes: tuple[str, ...] = Field(
        default=(), description="What was fixed in the model's own template."
    )
    context_tokens: int
    parameters: int
    bytes: int
    note: str | None = None
