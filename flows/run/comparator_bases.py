"""Champion and anchor on another base model than the run's: their base is placed beside them.

    package ─┬─ adapter/ ──────────────────► data/champion/SYSTEM
             └─ manifest, template ─ kept ─► data/champion/SYSTEM.base, where it is another base

Which base the run has is known only after stage `base_model`. Where it is the same one, nothing is
placed, and no stage has another key than before.
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from core.errors import AssayError, ParameterError, UnusableBaseModel
from flows.run.workspace import Workspace
from pipelines import layout
from pipelines.engines import NotTaken
from pipelines.engines.installed import installed_version
from pipelines.gates.policy import ScreenPolicy, load_policy
from pipelines.metrics import ALL_METRICS
from pipelines.models.base_store import read_base_model
from pipelines.models.comparator_bases import describe_missing, is_base_of, place_of
from pipelines.stages.base_model import find_base_model
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.champion import Champion, read_comparators
from pipelines.values.engine_name import ENGINE_NAMES, InstalledEngine, find_engine
from pipelines.values.evidence import Adapter, System
from pipelines.values.params import load_params
from pipelines.values.precision import PRECISIONS, Precision, find_precision
from pipelines.values.verdict import Finalist
from registry.mlflow.recorded import ModelVersion

_KEPT = layout.DATA / ".comparator_bases"
_FILES = {
    "base_model.json": "manifest.json",
    "chat_template.jinja": "chat_template.jinja",
    "params.yaml": "params.yaml",
}
"""Files of a package, and the names under which stage `base_model` writes them."""


def place_version(
    version: ModelVersion,
    package: Path,
    system: str,
    workspace: Workspace,
) -> Champion:
    """Place a version's package, and give what says how it answers there."""
    # What was never passed is no comparator.
    verdict = Finalist.read(package / "verdict.json")
    precision = _check_precision(verdict.spec.precision, version)
    engine = _check_engine(verdict.spec.engine, version)
    own = workspace.params.generation
    return Champion(
        version=version.version,
        adapter=place_package(package, system, workspace),
        precision=None if precision == own.precision else precision,
        engine=None if engine.name == own.engine else engine,
    )


def _check_precision(name: str, version: ModelVersion) -> Precision:
    precision = find_precision(name)
    if precision is not None:
        return precision
    raise ParameterError(
        f"{version.name} version {version.version} answers in {name[:40]}, which this version of "
        f"Assay does not know, only {', '.join(PRECISIONS)}. Install the one that made it."
    )


def _check_engine(name: str, version: ModelVersion) -> InstalledEngine:
    """The engine that a version answers in; `ParameterError` where it cannot be asked here."""
    engine = find_engine(name)
    subject = f"{version.name} version {version.version}"
    if engine is None:
        raise ParameterError(
            f"{subject} answers by {name[:40]}, which this version of Assay does not know, only "
            f"{', '.join(ENGINE_NAMES)}. Install the one that made it."
        )
    # Before anything is trained, and not when it is to answer.
    try:
        return InstalledEngine(name=engine, version=installed_version(engine))
    except NotTaken as reason:
        raise ParameterError(
            f"{subject} answers by {engine}, and nothing can be compared with it here: {reason}."
        ) from reason


def place_package(
    package: Path,
    system: str,
    workspace: Workspace,
) -> Adapter:
    """Copy a comparator's adapter to where stages read it, and keep what says its base.

    Gives the adapter's record.
    """
    shutil.copytree(package / "adapter", workspace.root / layout.CHAMPION / system)
    kept = workspace.root / _KEPT / system
    # Files of an earlier comparator would say another base.
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir(parents=True)
    for name, own_name in _FILES.items():
        # A package in completion mode has no template.
        if (package / name).is_file():
            shutil.copyfile(package / name, kept / own_name)
    # The record is the package's own: bytes and record were hashed together.
    return Adapter.read(package / "adapter.json")


def place_comparator_bases(workspace: Workspace) -> None:
    """Place the base of each comparator that was trained on another one than the run's.

    Before anything is trained: `UnusableBaseModel` where its weights are not on this machine,
    `ParameterError` where the policy would compare what two bases do not share.
    """
    root = workspace.root
    own, _ = read_base_model(root / layout.BASE_MODEL)
    for system, comparator in read_comparators(root / layout.CHAMPION):
        if is_base_of(comparator.adapter, own):
            continue
        kept = root / _KEPT / system
        base, _ = read_base_model(kept)
        # Another template on the same base leaves its tokens as they are.
        if base.digest != own.digest:
            _check_policy(
                workspace,
                system,
                base,
            )
        _bring_weights(
            system,
            base,
            kept,
            workspace.home,
        )
        place = root / place_of(system)
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(
            kept,
            place,
            ignore=shutil.ignore_patterns("params.yaml"),
        )


def _bring_weights(
    system: System,
    base: BaseModelManifest,
    kept: Path,
    home: Path,
) -> None:
    """Find the weights where the comparator's own run had them."""
    weights = home / "base-models" / base.digest
    # Another machine may have trained it, and the folder of then may be gone: that is said below.
    if not weights.is_dir():
        with suppress(AssayError):
            find_base_model(load_params(kept / "params.yaml").base_model, home)
    if not weights.is_dir():
        raise UnusableBaseModel(describe_missing(system, base))


def _check_policy(
    workspace: Workspace,
    system: System,
    base: BaseModelManifest,
) -> None:
    """Refuse a policy that would hold a metric of tokens against another base, and nothing else."""
    policy = load_policy(workspace.root / layout.POLICY).gates.screen
    cheaper = policy.cheaper
    # A token of another base is other work: fewer of them need not cost less.
    if cheaper is not None and policy.may_be_equal_to(system):
        raise ParameterError(
            f"{cheaper.cost} cannot be compared with the {system}, which is on another base model "
            f"({base.id}). Take {system} out of screen.cheaper.than in the policy."
        )
    scored = workspace.params.score.metrics
    for metric, stand_in in _metrics_of_tokens(policy, system):
        is_primary = metric == policy.primary
        stands_in = stand_in in scored and _is_guarded(
            policy,
            stand_in,
            system,
        )
        if is_primary:
            raise ParameterError(
                f"{metric} is the policy's primary metric, and cannot be compared with the "
                f"{system}, which is on another base model ({base.id}). "
                f"Have the policy name another, such as {stand_in}."
            )
        # What is not scored is compared with nobody.
        if metric in scored and not stands_in:
            raise ParameterError(
                f"{metric} cannot be compared with the {system}, which is on another base model "
                f"({base.id}), and {stand_in} does not judge in its place. Put {stand_in} into "
                "score.metrics and among the policy's guardrails."
            )


def _metrics_of_tokens(
    policy: ScreenPolicy,
    system: System,
) -> Iterator[tuple[str, str]]:
    """Each judged metric that compares nothing across bases, with the one that does."""
    for metric in ALL_METRICS:
        stand_in = metric.stand_in
        is_judged = _is_guarded(
            policy,
            metric.name,
            system,
        )
        if stand_in is not None and (is_judged or metric.name == policy.primary):
            yield metric.name, stand_in


def _is_guarded(
    policy: ScreenPolicy,
    metric: str,
    system: System,
) -> bool:
    guardrails: Sequence[str] = [
        guardrail.metric
        for guardrail in policy.guardrails
        if system in guardrail.against
    ]
    return metric == policy.primary or metric in guardrails
