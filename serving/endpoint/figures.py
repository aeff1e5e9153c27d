"""What fleet and follower say of themselves, for whoever shows metrics."""

from collections.abc import Iterator

from registry.ledger.state import LedgerState
from serving.endpoint.lanes import Lanes
from serving.endpoint.release_engine import ReleaseEngine
from serving.observing.figures import EngineFigures, Role, Share


def engine_figures(engine: ReleaseEngine) -> EngineFigures:
    """Of one engine, whatever it does just now."""
    release = engine.need.recorded.release
    return EngineFigures(
        model=release.model,
        release=release.version,
        role=_role_of(engine),
        is_ready=engine.is_ready,
        is_asleep=engine.is_asleep,
        requests=engine.requests,
        ends=engine.ends,
        pid=engine.pid,
        shares_process=engine.shares_process,
        engine=engine.loaded_spec.engine if engine.is_ready else "",
    )


def shares(lanes: Lanes, ledger_state: LedgerState | None) -> Iterator[Share]:
    """Percent of each registered model's requests that each release gets."""
    models = () if ledger_state is None else ledger_state.models
    for name, lane in lanes.table.items():
        # The lanes hold the names of bases as well.
        if name not in models:
            continue
        main, *others = lane.branches
        rest = 100 - sum(branch.weight for branch in others)
        yield Share(name, main.target.label, rest)
        for branch in others:
            yield Share(name, branch.target.label, branch.weight)


def _role_of(engine: ReleaseEngine) -> Role:
    if engine.need.beside:
        return "baseline"
    return "release" if engine.need.with_adapter else "base"
