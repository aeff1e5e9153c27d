"""Which bases have releases of several models: those are worth a process that they share."""

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple, Self

from pipelines.values.serving_spec import ServingSpec
from registry.ledger.state import ModelState
from serving.endpoint.engine_choice import SHAREABLE, EngineWish


class SharedBase(NamedTuple):
    """What releases must have in common to be served by one process."""

    base_digest: str
    chat_template_sha256: str | None
    precision: str

    @classmethod
    def of(cls, spec: ServingSpec) -> Self:
        """That of a release."""
        return cls(spec.base_digest, spec.chat_template_sha256, spec.precision)


def bases_of_several(
    models: Iterable[ModelState], engines: EngineWish
) -> frozenset[SharedBase]:
    """Those on which releases of more than one model serve, are completed and could share."""
    counts: defaultdict[SharedBase, int] = defaultdict(int)
    for model in models:
        serving = model.current
        if serving is None or not serving.is_completed:
            continue
        spec = serving.release.spec
        if engines.choose(spec.engine).lasting in SHAREABLE:
            counts[SharedBase.of(spec)] += 1
    return frozenset(base for base, count in counts.items() if count > 1)
