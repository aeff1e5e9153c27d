"""From folders to an engine: check, then load."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from core.errors import DamagedFile, ServingError
from core.log import say
from core.settings import Settings
from pipelines.engines import OPENVINO, TRANSFORMERS, VLLM, Engine, NotTaken
from pipelines.models.language_model import LanguageModel, load_language_model
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.precision import PRECISIONS, Precision, find_precision
from pipelines.values.serving_spec import ServingSpec
from serving.openai_schema.fields import MODEL_NAME
from serving.package import (
    WEIGHTS,
    Package,
    check_base,
    open_package,
    read_chat_template,
)
from serving.stamps import Stamps, load_unchanged, read_stamps

ENGINES = (TRANSFORMERS, OPENVINO, VLLM)
# Tokens of an answer to a request that sets no limit, where a base is served alone.
DEFAULT_MAX_TOKENS = 256


@dataclass(frozen=True)
class EngineConfig:
    """What an engine is to load and serve. Without a package it is the base alone."""

    base_folder: Path
    base_manifest: Path
    package: Path | None = None
    model_name: str = "tuned"
    # None: as it was scored; for a base alone float32.
    precision: Precision | None = None
    # None: as it was scored; for a base alone 256.
    default_max_tokens: int | None = None
    # What computes answers, where it takes the base.
    engine: str = TRANSFORMERS
    # Whether transformers computes them where it does not; without that it is a `ServingError`.
    has_stand_in: bool = True
    # What is done, with a sentence, where what computes them ends while it serves.
    when_lost: Callable[[str], None] = say


def engine_wanted(settings: Settings) -> str:
    """The engine that the environment asks for; `ServingError` where there is none of that name."""
    wanted = settings.engine or TRANSFORMERS
    if wanted in ENGINES:
        return wanted
    raise ServingError(
        f"ASSAY_ENGINE is {wanted[:40]!r}, and there are {', '.join(ENGINES)}. "
        "Correct it, or leave it out."
    )


def load_engine(config: EngineConfig) -> Engine:
    """Check every digest, then load.

    The base answers under its own name, the adapter under `model_name`. An adapter is served in
    the configuration that was scored and in no other: another is a `ServingError`. `DamagedFile`
    also where files were exchanged after their check, be it for a moment.
    """
    base = BaseModelManifest.read(config.base_manifest)
    if not config.has_stand_in:
        check_device(config.engine)
    engine = _load_unchanged(config, base)
    if engine is not None:
        return engine
    raise DamagedFile(
        f"Files of {config.base_folder} or of its adapter's package changed while they were "
        "loaded. Find out who writes there, then start again."
    )


def _load_unchanged(config: EngineConfig, base: BaseModelManifest) -> Engine | None:
    def look() -> tuple[Stamps | None, ...]:
        return _read_stamps(config, base)

    def load() -> tuple[LanguageModel, dict[str, ServingSpec]]:
        return _check_and_load(config, base)

    # It reads the files once more, by itself.
    if config.engine == VLLM:
        return load_unchanged(
            look,
            lambda: _open_engine(config, base, *load()),
            lambda engine: engine.close(),
        )
    loaded = load_unchanged(look, load, lambda _: None)
    return None if loaded is None else _open_engine(config, base, *loaded)


def _read_stamps(
    config: EngineConfig, base: BaseModelManifest
) -> tuple[Stamps | None, ...]:
    """The stamps of all that is loaded, of which a base may have gigabytes."""
    of_base = read_stamps(config.base_folder, base.files)
    if config.package is None:
        return (of_base,)
    return of_base, read_stamps(config.package)


def _check_and_load(
    config: EngineConfig, base: BaseModelManifest
) -> tuple[LanguageModel, dict[str, ServingSpec]]:
    check_base(config.base_folder, base)
    package = None
    if config.package is not None:
        package = open_package(config.package, base)
    template = _read_template(config, base, package)
    precision = _precision(config, package)
    default_max_tokens = _default_max_tokens(config, package)
    spec = ServingSpec.of_transformers(base, precision, default_max_tokens)
    # Before the weights: a wrong configuration is then found in milliseconds.
    specs = specs_of(base, spec, config.model_name, package)
    language = load_language_model(
        base,
        config.base_folder,
        template,
        precision,
        package.adapter_folder if package else None,
    )
    copy_weights(language.model)
    return language, specs


def _open_engine(
    config: EngineConfig,
    base: BaseModelManifest,
    language: LanguageModel,
    specs: dict[str, ServingSpec],
) -> Engine:
    from pipelines.engines.transformers import TransformersEngine

    if config.engine == OPENVINO:
        return _load_openvino(config, base, language, specs)
    if config.engine == VLLM:
        return _load_vllm(config, base, language, specs)
    return TransformersEngine(language, specs)


def check_device(engine: str) -> None:
    """Return unless the weights would go to a GPU, where others may need all memory."""
    import torch

    if engine == OPENVINO and torch.cuda.is_available():
        raise ServingError(
            "OpenVINO computes on the processor, and the GPU of this machine is used"
        )


def _load_openvino(
    config: EngineConfig,
    base: BaseModelManifest,
    language: LanguageModel,
    specs: dict[str, ServingSpec],
) -> Engine:
    """An engine that computes by OpenVINO; by transformers where OpenVINO does not take the base.

    What is served says which of them it is: that is part of its spec. `ServingError` where
    transformers is not to stand in.
    """
    from pipelines.engines.openvino.opening import library_version, open_openvino
    from pipelines.engines.transformers import TransformersEngine, has_adapter

    try:
        compiled = open_openvino(language, has_adapter=has_adapter(language, specs))
    except NotTaken as reason:
        if not config.has_stand_in:
            raise ServingError(f"OpenVINO does not take {base.id}: {reason}") from None
        say(f"OpenVINO does not serve {base.id}: {reason}. transformers serves it.")
        return TransformersEngine(language, specs)
    version = library_version()
    own_specs = {}
    for name, spec in specs.items():
        own_specs[name] = spec.in_engine(OPENVINO, version)
    # The compiled model has weights of its own: two of them would not fit where one does.
    without_weights = replace(language, model=None)
    return TransformersEngine(without_weights, own_specs, compiled=compiled)


def _load_vllm(
    config: EngineConfig,
    base: BaseModelManifest,
    language: LanguageModel,
    specs: dict[str, ServingSpec],
) -> Engine:
    """An engine that asks vLLM; transformers where it is known beforehand that vLLM cannot serve.

    `ServingError` where that is seen later: the endpoint then starts a process without vLLM.
    """
    from pipelines.engines.transformers import TransformersEngine
    from pipelines.engines.vllm.opening import Weights, open_vllm, plan_vllm

    adapter = None if config.package is None else config.package / WEIGHTS
    weights = Weights(config.base_folder, base.digest, adapter)
    try:
        plan = plan_vllm(language, specs, weights)
    except NotTaken as reason:
        if not config.has_stand_in:
            raise ServingError(f"vLLM does not serve {base.id}: {reason}") from None
        say(f"vLLM does not serve {base.id}: {reason}. transformers serves it.")
        return TransformersEngine(language, specs)
    try:
        return open_vllm(plan, language, specs, config.when_lost)
    except (NotTaken, ServingError) as reason:
        raise ServingError(f"vLLM does not serve {base.id}: {reason}") from reason


def copy_weights(model: Any) -> None:
    """Give the process weights of its own, where the loader left them in the base's files.

    transformers maps a file whose precision is the one that is asked for. Whoever writes into that
    file later would change the answers of a release, and who shortens it would end the process.
    """
    # One by one: never two copies of all weights at once.
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.device.type == "cpu":
            tensor.data = tensor.data.clone()


def base_model_name(base: BaseModelManifest) -> str:
    """The name under which a base answers."""
    return name_of_base(base.id)


def name_of_base(base_id: str) -> str:
    """The last part of a base's id, in characters that are safe in a URL.

    `HuggingFaceTB/SmolLM2-135M` gives `SmolLM2-135M`.
    """
    parts = base_id.rstrip("/").rsplit("/", 1)
    last_part = parts[-1]
    safe = re.sub(r"[^A-Za-z0-9._-]+", "-", last_part)
    name = safe.lstrip("._-")[:128]
    return name or "base"


def scored_precision(package: Package) -> Precision:
    """The precision that the verdict holds for.

    `ServingError` where this engine does not serve it.
    """
    return check_precision(package.verdict.spec.precision)


def _read_template(
    config: EngineConfig, base: BaseModelManifest, package: Package | None
) -> str | None:
    folders = [config.base_manifest.parent, config.base_folder]
    if package is not None:
        folders.append(package.folder)
    return read_chat_template(base, tuple(folders))


def _precision(config: EngineConfig, package: Package | None) -> Precision:
    if config.precision is None and package is not None:
        return scored_precision(package)
    return check_precision(config.precision or "float32")


def check_precision(name: str) -> Precision:
    """The precision of that name; `ServingError` where this engine does not serve it."""
    precision = find_precision(name)
    if precision is not None:
        return precision
    raise ServingError(
        f"The engine transformers does not serve {name[:40]}, only {', '.join(PRECISIONS)}. "
        "Screen the adapter in one of them."
    )


def _default_max_tokens(config: EngineConfig, package: Package | None) -> int:
    if config.default_max_tokens is not None:
        return config.default_max_tokens
    if package is not None:
        return package.verdict.spec.default_max_tokens
    return DEFAULT_MAX_TOKENS


def specs_of(
    base: BaseModelManifest, spec: ServingSpec, name: str, package: Package | None
) -> dict[str, ServingSpec]:
    """The tuned model first: a client that asks for the list often picks the first."""
    base_name = base_model_name(base)
    if package is None:
        return {base_name: spec}
    is_valid = MODEL_NAME.fullmatch(name) is not None
    if not is_valid or name == base_name:
        raise ServingError(
            f"--model-name {name[:40]!r} cannot be served beside the base {base_name}. "
            "Use letters, digits, dot, dash, and another name."
        )
    tuned = spec.with_adapter(package.adapter.sha256)
    _check_as_scored(tuned, package)
    return {name: tuned, base_name: spec}


def _check_as_scored(spec: ServingSpec, package: Package) -> None:
    """Return only if the spec of what is loaded is the one that the verdict holds for."""
    differences = package.verdict.spec.differences(spec)
    if differences:
        raise ServingError(
            f"{package.folder} was scored in another configuration than is to be served: "
            f"{'; '.join(differences)}. "
            "Serve it as it was scored, or have this configuration screened by itself."
        )
