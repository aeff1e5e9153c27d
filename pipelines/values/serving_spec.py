"""What exactly answers a request. Evidence names it, and every response names it."""

from typing import Self

from core.value import Value
from pipelines.values.base_manifest import BaseModelManifest


class ServingSpec(Value):
    """Everything that decides an answer, besides the request itself.

    Requests that set no temperature are answered greedily.
    """

    # By digest, never by name: the same name may be other weights tomorrow.
    base_digest: str
    adapter_sha256: str | None
    chat_template_sha256: str | None
    # Engines, and versions of one, may round differently and so answer differently.
    engine: str
    engine_version: str
    precision: str
    default_max_tokens: int

    @property
    def fingerprint(self) -> str:
        """The spec's digest, shortened to what fits a log line."""
        digest = self.content_sha256()
        short = digest[:16]
        return f"fp_{short}"

    @classmethod
    def of(
        cls,
        base: BaseModelManifest,
        *,
        engine: str,
        engine_version: str,
        precision: str,
        default_max_tokens: int,
    ) -> Self:
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

    @classmethod
    def of_transformers(
        cls, base: BaseModelManifest, precision: str, default_max_tokens: int
    ) -> Self:
        """The base in the installed transformers: it scores, and is the reference engine."""
        from importlib.metadata import version

        return cls.of(
            base,
            engine="transformers",
            engine_version=version("transformers"),  # others may round differently
            precision=precision,
            default_max_tokens=default_max_tokens,
        )

    def with_adapter(self, sha256: str | None) -> Self:
        """The same spec with an adapter; None removes it."""
        update = {"adapter_sha256": sha256}
        return self.model_copy(update=update)

    def in_engine(self, engine: str, version: str) -> Self:
        """The same spec, computed by another engine."""
        update = {"engine": engine, "engine_version": version}
        return self.model_copy(update=update)

    def is_computed_otherwise(self, other: Self) -> bool:
        """Whether `other` is this in another engine, and differs in nothing else."""
        if other.engine == self.engine:
            return False
        return other.in_engine(self.engine, self.engine_version) == self

    def differences(self, other: Self) -> tuple[str, ...]:
        """Each field in which `other` differs, with both settings."""
        sentences = []
        for name in type(self).model_fields:
            own_setting = getattr(self, name)
            other_setting = getattr(other, name)
            if own_setting != other_setting:
                sentences.append(f"{name} is {other_setting}, not {own_setting}")
        return tuple(sentences)
