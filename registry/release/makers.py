"""What has to have given the answers of each system, by the files beside the evidence."""

from pipelines.values.champion import ChampionInput
from pipelines.values.evidence import Adapter, Scorecard, System
from pipelines.values.serving_spec import ServingSpec


def expected_makers(
    scorecard: Scorecard,
    champion: ChampionInput,
) -> dict[System, ServingSpec]:
    """The configuration of the base, whatever it is given before a prompt, and of each adapter.

    Engine, precision and length are the scorecard's for all. Champion and anchor answer on the
    base of their own training, all others on the adapter's.
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
        makers[system] = _on_its_base(comparator.adapter, spec)
    return makers


def _on_its_base(
    adapter: Adapter,
    spec: ServingSpec,
) -> ServingSpec:
    update = {
        "adapter_sha256": adapter.sha256,
        "base_digest": adapter.base_digest,
        "chat_template_sha256": adapter.chat_template_sha256,
    }
    return spec.model_copy(update=update)
