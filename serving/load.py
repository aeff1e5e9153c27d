"""From folders to an engine: check, then load."""

import re
from dataclasses import dataclass
from pathlib import Path

from pipelines.errors import ServingError
from pipelines.evidence import BaseModelManifest
from pipelines.language_model import Precision, load_language_model
from serving.engines import Engine
from serving.openai_schema import MODEL_NAME
from serving.package import chat_template, check_base, open_package
from serving.spec import ServingSpec


@dataclass(frozen=True)
class Wanted:
    """What is to be served. Without a package it is the base alone."""

    base_folder: Path
    base_manifest: Path
    package: Path | None = None
    model_name: str = "tuned"
    precision: Precision = "float32"
    default_max_tokens: int = 256


def load_engine(wanted: Wanted) -> Engine:
    """Check every digest, then load. The base answers under its own name, the adapter under `model_name`."""
    from serving.engines.transformers import TransformersEngine, engine_version

    base = BaseModelManifest.read(wanted.base_manifest)
    check_base(wanted.base_folder, base)
    package = None if wanted.package is None else open_package(wanted.package, base)
    folders = (wanted.base_manifest.parent, wanted.base_folder, *([package.folder] if package else []))
    template = chat_template(base, folders)
    spec = ServingSpec.of(
        base,
        engine="transformers",
        engine_version=engine_version(),
        precision=wanted.precision,
        default_max_tokens=wanted.default_max_tokens,
    )
    specs = _specs(base, spec, wanted.model_name, None if package is None else package.adapter.sha256)
    adapter = None if package is None else package.adapter_folder
    return TransformersEngine(load_language_model(base, wanted.base_folder, template, wanted.precision, adapter), specs)


def base_model_name(base: BaseModelManifest) -> str:
    """The name under which a base answers: the last part of its id, in characters that are safe in a URL."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", base.id.rstrip("/").rsplit("/", 1)[-1]).lstrip("._-")[:128] or "base"


def _specs(base: BaseModelManifest, spec: ServingSpec, name: str, adapter_sha256: str | None) -> dict[str, ServingSpec]:
    """The tuned model first: what a client takes that asks for the list and picks the first."""
    own = base_model_name(base)
    if adapter_sha256 is None:
        return {own: spec}
    if not MODEL_NAME.fullmatch(name) or name == own:
        raise ServingError(
            f"--model-name {name[:40]!r} cannot be served beside the base {own}. Use letters, digits, dot, dash, and another name."
        )
    return {name: spec.with_adapter(adapter_sha256), own: spec}
