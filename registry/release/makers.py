"""What has to have given the answers of each system, by the files beside the evidence."""

from pipelines.values.champion import Champion, ChampionInput
from pipelines.values.evidence import Scorecard, System
from pipelines.values.serving_spec import ServingSpec


def expected_makers(
    scorecard: Scorecard,
    champion: ChampionInput,
) -> dict[System, ServingSpec]:
    """The configuration of the base, whatever it is given before a prompt, and of each adapter.

    The length is the scorecard's for all. Champion and anchor answer on the base of their own
    training, in the precision and the engine that they are served in, all others as the adapter.
    """
    spec = scorecard.spec
    # Examples stand before the prompt and change no weights.
    bare = spec.with_adapter(None)
    makers: dict[System, ServingSpec] = {
        "base": bare,
        "few_shot": bare,
        "retrieval": bare,
        "adapter": spec.with_adapter(scorecard.adapter.sha256),
    }
    # Theirs come last: each answers on the base of its own training.
    for system, comparator in champion.comparators():
        makers[system] = _as_served(comparator, spec)
    return makers


def _as_served(
    comparator: Champion,
    spec: ServingSpec,
) -> ServingSpec:
    adapter = comparator.adapter
    update = {
        "adapter_sha256": adapter.sha256,
        "base_digest": adapter.base_digest,
        "chat_template_sha256": adapter.chat_template_sha256,
        "precision": comparator.precision or spec.precision,
    }
    served = spec.model_copy(update=update)
    engine = comparator.engine
    if engine is None:
        return served
    return served.in_engine(engine.name, engine.version)
