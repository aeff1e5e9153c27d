"""What exactly answers a request. Evidence names it, and every response names it."""

from typing import Self

from pipelines.evidence import BaseModelManifest
from pipelines.value import Value


class ServingSpec(Value):
    """Everything that decides an answer, besides the request itself. Requests that set no temperature are answered greedily."""

    base_digest: str
    adapter_sha256: str | None
    chat_template_sha256: str | None
    engine: str
    engine_version: str
    precision: str
    default_max_tokens: int

    @property
    def fingerprint(self) -> str:
        """The spec's digest, shortened to what fits a log line."""
        return f"fp_{self.content_sha256()[:16]}"

    @classmethod
    def of(cls, base: BaseModelManifest, *, engine: str, engine_version: str, precision: str, default_max_tokens: int) -> Self:
        """The base by itself; `with_adapter` gives the tuned one."""
        return cls(
            base_digest=base.digest,
            adapter_sha256=None,
            chat_template_sha256=base.chat_template_sha256,
            engine=engine,
            engine_version=engine_version,
            precision=precision,
            default_max_tokens=default_max_tokens,
        )

    def with_adapter(self, sha256: str) -> Self:
        """The same with an adapter on."""
        return self.model_copy(update={"adapter_sha256": sha256})
