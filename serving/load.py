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
from pipelines.values.engine_name import ENGINE_NAMES
from pipelines.values.precision import PRECISIONS, Precision, find_precision
from pipelines.values.serving_spec import ServingSpec
from serving.as_scored import (
    check_before_loading,
    check_loaded,
    choose_engine,
    may_stand_in,
    specs_of,
)
from serving.package import (
    WEIGHTS,
    Package,
    check_base,
    open_package,
    read_chat_template,
)
from serving.stamps import Stamps, load_unchanged, read_stamps

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
    # What computes answers, where it takes the base. None: what scored; for a base alone
    # transformers.
    engine: str | None = None
    # Whether transformers computes them where it does not, unless that engine scored; without
    # that it is a `ServingError`.
    has_stand_in: bool = True
    # What is done, with a sentence, where what computes them ends while it serves.
    when_lost: Callable[[str], None] = say


@dataclass(frozen=True)
class _Loaded:
    """Weights in transformers, and what is to answer by them."""

    language: LanguageModel
    # By name, in transformers.
    specs: dict[str, ServingSpec]
    package: Package | None
    engine: str
    # Whether transformers may answer in the place of that engine.
    has_stand_in: bool


def engine_wanted(settings: Settings) -> str:
    """The engine that the environment asks for; `ServingError` where there is none of that name."""
    wanted = settings.engine or TRANSFORMERS
    if wanted in ENGINE_NAMES:
        return wanted
    raise ServingError(
        f"ASSAY_ENGINE is {wanted[:40]!r}, and there are {', '.join(ENGINE_NAMES)}. "
        "Correct it, or leave it out."
    )


def load_engine(config: EngineConfig) -> Engine:
    """Check every digest, then load.

    The base answers under its own name, the adapter under `model_name`. An adapter is served in
    the configuration that was scored and in no other: another is a `ServingError`. `DamagedFile`
    also where files were exchanged after their check, be it for a moment.
    """
    base = BaseModelManifest.read(config.base_manifest)
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

    def load() -> tuple[_Loaded, Engine | None]:
        loaded = _check_and_load(config, base)
        # It reads the files once more, by itself.
        reads_files = loaded.engine == VLLM
        return loaded, _open_engine(config, base, loaded) if reads_files else None

    kept = load_unchanged(look, load, _close)
    if kept is None:
        return None
    loaded, engine = kept
    return engine or _open_engine(config, base, loaded)


def _close(kept: tuple[_Loaded, Engine | None]) -> None:
    _, engine = kept
    if engine is not None:
        engine.close()


def _read_stamps(
    config: EngineConfig, base: BaseModelManifest
) -> tuple[Stamps | None, ...]:
    """The stamps of all that is loaded, of which a base may have gigabytes."""
    of_base = read_stamps(config.base_folder, base.files)
    if config.package is None:
        return (of_base,)
    return of_base, read_stamps(config.package)


def _check_and_load(config: EngineConfig, base: BaseModelManifest) -> _Loaded:
    package = None
    if config.package is not None:
        package = open_package(config.package, base)
    engine = choose_engine(config.engine, package)
    has_stand_in = config.has_stand_in and may_stand_in(package)
    if not has_stand_in:
        check_device(engine)
    check_base(config.base_folder, base)
    template = _read_template(config, base, package)
    precision = _precision(config, package)
    default_max_tokens = _default_max_tokens(config, package)
    spec = ServingSpec.of_transformers(base, precision, default_max_tokens)
    # Before the weights: a wrong configuration is then found in milliseconds.
    specs = specs_of(base_model_name(base), spec, config.model_name, package)
    if package is not None:
        check_before_loading(specs[config.model_name], package, engine)
    language = load_language_model(
        base,
        config.base_folder,
        template,
        precision,
        package.adapter_folder if package else None,
    )
    copy_weights(language.model)
    return _Loaded(language, specs, package, engine, has_stand_in)


def _open_engine(
    config: EngineConfig, base: BaseModelManifest, loaded: _Loaded
) -> Engine:
    from pipelines.engines.transformers import TransformersEngine

    if loaded.engine == OPENVINO:
        return _load_openvino(base, loaded)
    if loaded.engine == VLLM:
        return _load_vllm(config, base, loaded)
    return TransformersEngine(loaded.language, loaded.specs)


def check_device(engine: str) -> None:
    """Return unless the weights would go to a GPU, where others may need all memory."""
    import torch

    if engine == OPENVINO and torch.cuda.is_available():
        raise ServingError(
            "OpenVINO computes on the processor, and the GPU of this machine is used"
        )


def _load_openvino(base: BaseModelManifest, loaded: _Loaded) -> Engine:
    """An engine that computes by OpenVINO; by transformers where OpenVINO does not take the base.

    What is served says which of them it is: that is part of its spec. `ServingError` where
    transformers is not to stand in.
    """
    from pipelines.engines.openvino.opening import library_version, open_openvino
    from pipelines.engines.transformers import TransformersEngine, has_adapter

    language, specs = loaded.language, loaded.specs
    try:
        compiled = open_openvino(language, has_adapter=has_adapter(language, specs))
    except NotTaken as reason:
        if not loaded.has_stand_in:
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
    config: EngineConfig, base: BaseModelManifest, loaded: _Loaded
) -> Engine:
    """An engine that asks vLLM; transformers where it is known beforehand that vLLM cannot serve.

    `ServingError` where that is seen later: the endpoint then starts a process without vLLM.
    """
    from pipelines.engines.transformers import TransformersEngine
    from pipelines.engines.vllm.opening import Weights, open_vllm, plan_vllm

    language, specs = loaded.language, loaded.specs
    adapter = None if config.package is None else config.package / WEIGHTS
    weights = Weights(config.base_folder, base.digest, adapter)
    try:
        plan = plan_vllm(language, specs, weights)
    except NotTaken as reason:
        if not loaded.has_stand_in:
            raise ServingError(f"vLLM does not serve {base.id}: {reason}") from None
        say(f"vLLM does not serve {base.id}: {reason}. transformers serves it.")
        return TransformersEngine(language, specs)
    try:
        engine = open_vllm(plan, language, specs, config.when_lost)
    except (NotTaken, ServingError) as reason:
        raise ServingError(f"vLLM does not serve {base.id}: {reason}") from reason
    try:
        if loaded.package is not None:
            check_loaded(engine.specs[config.model_name], loaded.package)
    except ServingError:
        engine.close()
        raise
    return engine


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
