"""What loaded weights are served as: the configuration that was scored, and no other.

A score holds for an engine and its version, too. Another engine than the one that scored may be
named. Then whoever starts it compares its answers with the scored ones, as the endpoint does
(`serving.endpoint.parity`).
"""

from core.errors import ServingError
from pipelines.engines import OPENVINO, TRANSFORMERS, NotTaken
from pipelines.engines.installed import installed_version
from pipelines.values.engine_name import ENGINE_NAMES
from pipelines.values.serving_spec import ServingSpec
from serving.openai_schema.fields import MODEL_NAME
from serving.package import Package


def choose_engine(asked: str | None, package: Package | None) -> str:
    """The engine that is asked for, or else the one that scored; for a base alone transformers.

    `ServingError` where there is none of that name.
    """
    if asked is not None:
        return asked
    if package is None:
        return TRANSFORMERS
    scored = package.verdict.spec.engine
    if scored in ENGINE_NAMES:
        return scored
    raise ServingError(
        f"{package.folder} was scored by {scored[:40]}, and there are {', '.join(ENGINE_NAMES)}. "
        "Have it screened in one of them."
    )


def may_stand_in(package: Package | None) -> bool:
    """Whether a process may compute by transformers because another engine does not take the base.

    What another engine scored would be answered by one that nobody has compared with it.
    """
    return package is None or package.verdict.spec.engine == TRANSFORMERS


def specs_of(
    base_name: str, spec: ServingSpec, name: str, package: Package | None
) -> dict[str, ServingSpec]:
    """What answers under each name; `spec` is that of the base by itself.

    The tuned model first: a client that asks for the list often picks the first.
    """
    if package is None:
        return {base_name: spec}
    is_valid = MODEL_NAME.fullmatch(name) is not None
    if not is_valid or name == base_name:
        raise ServingError(
            f"--model-name {name[:40]!r} cannot be served beside the base {base_name}. "
            "Use letters, digits, dot, dash, and another name."
        )
    return {name: spec.with_adapter(package.adapter.sha256), base_name: spec}


def check_before_loading(spec: ServingSpec, package: Package, engine: str) -> None:
    """Return only if weights that load as `spec` and answer by `engine` are what was scored.

    `spec` names transformers, which loads them. Where another engine computes than the one that
    scored, that engine is all that may differ.
    """
    scored = package.verdict.spec
    if scored.engine != TRANSFORMERS:
        version_here = scored.engine_version
        # The version of vLLM is known once its server runs.
        if engine == scored.engine == OPENVINO:
            version_here = _openvino_version(package)
        spec = spec.in_engine(scored.engine, version_here)
    _compare(spec, package)


def check_loaded(spec: ServingSpec, package: Package) -> None:
    """Return only if what answers is what was scored, where the engine that scored computes."""
    if spec.engine == package.verdict.spec.engine:
        _compare(spec, package)


def _openvino_version(package: Package) -> str:
    try:
        return installed_version(OPENVINO)
    except NotTaken as reason:
        scored = package.verdict.spec
        raise ServingError(
            f"{package.folder} was scored by {scored.engine} {scored.engine_version}, and "
            f"{reason}, or have another engine compute (--engine {TRANSFORMERS})."
        ) from None


def _compare(spec: ServingSpec, package: Package) -> None:
    differences = package.verdict.spec.differences(spec)
    if differences:
        raise ServingError(
            f"{package.folder} was scored in another configuration than is to be served: "
            f"{'; '.join(differences)}. "
            "Serve it as it was scored, or have this configuration screened by itself."
        )
