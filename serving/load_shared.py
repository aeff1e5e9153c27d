"""From folders to an engine that several releases of one base share: check, then load."""

from dataclasses import dataclass, replace
from pathlib import Path

from core.errors import DamagedFile, ServingError
from core.log import say
from pipelines.engines import OPENVINO, TRANSFORMERS, NotTaken
from pipelines.engines.shared.engine import ReleaseEngine, SharedEngine
from pipelines.engines.shared.skeleton import Skeleton
from pipelines.engines.shared.stack import Adapter
from pipelines.models.language_model import LanguageModel, load_language_model
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.precision import Precision
from pipelines.values.serving_spec import ServingSpec
from serving.as_scored import (
    check_before_loading,
    choose_engine,
    may_stand_in,
    specs_of,
)
from serving.load import (
    DEFAULT_MAX_TOKENS,
    base_model_name,
    check_device,
    check_precision,
    copy_weights,
    scored_precision,
)
from serving.package import Package, check_base, open_package, read_chat_template
from serving.stamps import Stamps, load_unchanged, read_stamps

# Tokens of the rows that a base is tried with.
_SHORT, _LONG = 5, 11


@dataclass(frozen=True)
class SharedConfig:
    """What a process of several releases loads before the first of them."""

    base_folder: Path
    base_manifest: Path
    # A package of that base: its layers are those that adapters may change here.
    adapted_like: Path
    # None: as that package was scored.
    precision: Precision | None = None
    # None: what scored that package.
    engine: str | None = None
    # Whether transformers computes where that engine does not take the base, unless that engine
    # scored the package.
    has_stand_in: bool = True


@dataclass(frozen=True)
class ReleaseOrder:
    """What a release in a shared process is to be loaded from, and how it answers."""

    package_sha256: str
    package: Path
    model_name: str
    # None: as it was scored.
    default_max_tokens: int | None = None


@dataclass(frozen=True)
class SharedBase:
    """A loaded base that takes adapters."""

    base: BaseModelManifest
    # Of the base by itself, in transformers; each release has its own limit of tokens.
    loaded: ServingSpec
    engine: SharedEngine
    skeleton: Skeleton
    # What computes instead of transformers: its name and version.
    computed_by: tuple[str, str] | None = None

    @property
    def engine_name(self) -> str:
        """What computes."""
        return TRANSFORMERS if self.computed_by is None else self.computed_by[0]

    def attach(self, order: ReleaseOrder) -> ReleaseEngine:
        """Check a package and compute with its adapter; `AssayError` where it cannot share.

        Nothing of it is left then.
        """
        package, adapter = self._read_unchanged(order)
        limit = order.default_max_tokens
        if limit is None:
            limit = package.verdict.spec.default_max_tokens
        spec = self.loaded.model_copy(update={"default_max_tokens": limit})
        specs = specs_of(base_model_name(self.base), spec, order.model_name, package)
        check_before_loading(specs[order.model_name], package, self.engine_name)
        if self.computed_by is not None:
            for name, each in specs.items():
                specs[name] = each.in_engine(*self.computed_by)
        return self.engine.attach(adapter, specs)

    def close(self) -> None:
        """Cancel what runs, and stop."""
        self.engine.close()

    def _read_unchanged(self, order: ReleaseOrder) -> tuple[Package, Adapter]:
        read = load_unchanged(
            lambda: (read_stamps(order.package),),
            lambda: self._read(order),
            lambda _: None,
        )
        if read is not None:
            return read
        raise DamagedFile(
            f"Files of {order.package} changed while they were loaded. "
            "Find out who writes there, then release again."
        )

    def _read(self, order: ReleaseOrder) -> tuple[Package, Adapter]:
        package = open_package(order.package, self.base)
        if package.sha256 != order.package_sha256:
            raise DamagedFile(
                f"{order.package} is not package {order.package_sha256[:12]}. "
                "Fetch the package again."
            )
        check_weights(package)
        adapter = self.skeleton.read(package.adapter_folder)
        outside = sorted(adapter.keys() - self.engine.stack.layers.keys())
        if outside:
            raise ServingError(
                f"The adapter changes {outside[0]}, which has no place for adapters in this "
                "process. Serve it in another one."
            )
        return package, adapter


def load_shared(config: SharedConfig) -> SharedBase:
    """Check every digest, then load the base with places for adapters.

    `DamagedFile` also where files were exchanged after their check, be it for a moment.
    """
    base = BaseModelManifest.read(config.base_manifest)
    loaded = load_unchanged(
        lambda: _read_stamps(config, base),
        lambda: _check_and_load(config, base),
        SharedBase.close,
    )
    if loaded is not None:
        return loaded
    raise DamagedFile(
        f"Files of {config.base_folder} or {config.adapted_like} changed while they were loaded. "
        "Find out who writes there, then start again."
    )


def _read_stamps(
    config: SharedConfig, base: BaseModelManifest
) -> tuple[Stamps | None, ...]:
    of_base = read_stamps(config.base_folder, base.files)
    return of_base, read_stamps(config.adapted_like)


def _check_and_load(config: SharedConfig, base: BaseModelManifest) -> SharedBase:
    example = open_package(config.adapted_like, base)
    check_weights(example)
    engine = choose_engine(config.engine, example)
    if engine not in (TRANSFORMERS, OPENVINO):
        raise ServingError(
            f"--engine {engine} has a process for each release. Leave --shared out."
        )
    has_stand_in = config.has_stand_in and may_stand_in(example)
    if not has_stand_in:
        check_device(engine)
    check_base(config.base_folder, base)
    folders = config.base_manifest.parent, config.base_folder, example.folder
    template = read_chat_template(base, folders)
    if config.precision is None:
        precision = scored_precision(example)
    else:
        precision = check_precision(config.precision)
    tuned = load_language_model(
        base, config.base_folder, template, precision, example.adapter_folder
    )
    copy_weights(tuned.model)
    spec = ServingSpec.of_transformers(base, precision, DEFAULT_MAX_TOKENS)
    if engine == OPENVINO:
        by_openvino = replace(config, has_stand_in=has_stand_in)
        return _open_with_openvino(by_openvino, base, spec, tuned, example)
    return _open_with_transformers(base, spec, tuned, example)


def _open_with_transformers(
    base: BaseModelManifest, spec: ServingSpec, tuned: LanguageModel, example: Package
) -> SharedBase:
    from pipelines.engines.shared.opening import open_on_transformers, prepare
    from pipelines.engines.slot_model import Trial

    trial = Trial.of(tuned, short=_SHORT, long=_LONG)
    prepared = prepare(tuned, example.adapter_folder, trial)
    engine = open_on_transformers(prepared)
    return SharedBase(base, spec, engine, prepared.skeleton)


def _open_with_openvino(
    config: SharedConfig,
    base: BaseModelManifest,
    spec: ServingSpec,
    tuned: LanguageModel,
    example: Package,
) -> SharedBase:
    """By OpenVINO; by transformers where OpenVINO does not take the base, and that may stand in."""
    from pipelines.engines.openvino.opening import library_version, make_trial
    from pipelines.engines.openvino.sharing import check_sharing, open_on_openvino
    from pipelines.engines.shared.opening import open_on_transformers, prepare

    prepared = prepare(tuned, example.adapter_folder, make_trial(tuned))
    try:
        check_sharing(prepared.language)
        engine = open_on_openvino(prepared)
    except NotTaken as reason:
        if not config.has_stand_in:
            raise ServingError(f"OpenVINO does not take {base.id}: {reason}") from None
        say(f"OpenVINO does not serve {base.id}: {reason}. transformers serves it.")
        return SharedBase(base, spec, open_on_transformers(prepared), prepared.skeleton)
    computed_by = OPENVINO, library_version()
    return SharedBase(base, spec, engine, prepared.skeleton, computed_by)


def check_weights(package: Package) -> None:
    """Return only if the package holds weights: a prompt needs no place in a base."""
    if package.adapter.prompt is not None:
        raise ServingError(
            f"{package.folder} is a prompt, which shares no process. Serve it by itself."
        )
