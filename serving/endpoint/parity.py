"""Whether an engine may answer for the one that scored: it must give the scored answers itself.

A verdict holds for one configuration. Another engine with the same weights, template and precision
is another configuration, which the policy's share of known answers has to bear out.
"""

from pipelines.values.serving_spec import ServingSpec
from serving.endpoint.probe import probe, probe_known
from serving.endpoint.upstream import EngineAddress
from serving.endpoint.verify import VerifiedRelease


def may_show_parity(scored: ServingSpec, loaded: ServingSpec, wanted: str) -> bool:
    """Whether it is what was scored but for the engine, and that is the one asked for."""
    return loaded.engine == wanted and scored.is_computed_otherwise(loaded)


async def show_parity(
    engine: EngineAddress,
    verified: VerifiedRelease,
    loaded: ServingSpec,
    *,
    is_new: bool,
) -> str:
    """Ask for scored answers, and say how many came back and of which engine.

    A new release is asked drawn answers too. `ServingError` where too few came back.
    """
    ask = probe if is_new else probe_known
    fact = await ask(engine, verified)
    scored = verified.release.spec
    return (
        f"{fact} by {loaded.engine} {loaded.engine_version}, "
        f"scored by {scored.engine} {scored.engine_version}"
    )
