"""From folders to an engine: check, then load."""

import re
from dataclasses import dataclass
from pathlib import Path

from core.errors import ServingError
from pipelines.models.language_model import Precision, load_language_model
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.serving_spec import ServingSpec
from serving.engines import Engine
from serving.openai_schema import MODEL_NAME
from serving.package import Package, chat_template, check_base, open_package

PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
DEFAULT_MAX_TOKENS = 256


@dataclass(frozen=True)
class Wanted:
    """What is to be served. Without a package it is the base alone."""

    base_folder: Path
    base_manifest: Path
    package: Path | None = None
    model_name: str = "tuned"
    precision: Precision | None = None
    """None: as it was scored; for a base alone float32."""
    default_max_tokens: int | None = None
    """None: as it was scored; for a base alone 256."""


def load_engine(wanted: Wanted) -> Engine:
    """Check every digest, then load. The base answers under its own name, the adapter under `model_name`.

    An adapter is served in the configuration that was scored and in no other: another is a `ServingError`.
    """
    from serving.engines.transformers import TransformersEngine

    base = BaseModelManifest.read(wanted.base_manifest)
    check_base(wanted.base_folder, base)
    package = None if wanted.package is None else open_package(wanted.package, base)
    folders = (
        wanted.base_manifest.parent,
        wanted.base_folder,
        *([package.folder] if package else []),
    )
    template = chat_template(base, folders)
    precision = _precision(wanted, package)
    spec = ServingSpec.of_transformers(
        base, precision, _default_max_tokens(wanted, package)
    )
    specs = _specs(base, spec, wanted.model_name, package)
    adapter = None if package is None else package.adapter_folder
    return TransformersEngine(
        load_language_model(base, wanted.base_folder, template, precision, adapter),
        specs,
    )


def base_model_name(base: BaseModelManifest) -> str:
    """The name under which a base answers."""
    return name_of_base(base.id)


def name_of_base(base_id: str) -> str:
    """The last part of a base's id, in characters that are safe in a URL."""
    return (
        re.sub(r"[^A-Za-z0-9._-]+", "-", base_id.rstrip("/").rsplit("/", 1)[-1]).lstrip(
            "._-"
        )[:128]
        or "base"
    )


def scored_precision(package: Package) -> Precision:
    """The precision that the verdict holds for; one that this engine does not serve is `ServingError`."""
    return _known_precision(package.verdict.spec.precision)


def _precision(wanted: Wanted, package: Package | None) -> Precision:
    if wanted.precision is None and package is not None:
        return scored_precision(package)
    return _known_precision(wanted.precision or "float32")


def _known_precision(asked: str) -> Precision:
    for known in PRECISIONS:
        if asked == known:
            return known
    raise ServingError(
        f"The engine transformers does not serve {asked[:40]}, only {', '.join(PRECISIONS)}. Screen the adapter in one of them."
    )


def _default_max_tokens(wanted: Wanted, package: Package | None) -> int:
    scored = (
        DEFAULT_MAX_TOKENS
        if package is None
        else package.verdict.spec.default_max_tokens
    )
    return scored if wanted.default_max_tokens is None else wanted.default_max_tokens


def _specs(
    base: BaseModelManifest, spec: ServingSpec, name: str, package: Package | None
) -> dict[str, ServingSpec]:
    """The tuned model first: what a client takes that asks for the list and picks the first."""
    own = base_model_name(base)
    if package is None:
        return {own: spec}
    if not MODEL_NAME.fullmatch(name) or name == own:
        raise ServingError(
            f"--model-name {name[:40]!r} cannot be served beside the base {own}. Use letters, digits, dot, dash, and another name."
        )
    return {
        name: _as_scored(spec.with_adapter(package.adapter.sha256), package),
        own: spec,
    }


def _as_scored(spec: ServingSpec, package: Package) -> ServingSpec:
    """The spec of what is loaded, once it is the one that the verdict holds for."""
    different = package.verdict.spec.differences(spec)
    if not different:
        return spec
    raise ServingError(
        f"{package.folder} was scored in another configuration than is to be served: {'; '.join(different)}. "
        "Serve it as it was scored, or have this configuration screened by itself."
    )
