"""How long answers are, and whether they insult, by the groups that the bias report compares."""

from collections.abc import Sequence

from pipelines.rows.toxic_words import holds_toxic_word
from pipelines.scoring.evidence_file import Evidence
from pipelines.scoring.observations import by_feature, by_name
from pipelines.statistics.group_rates import BiasSettings, Method, output_bias
from pipelines.values.dataset import BiasReport
from pipelines.values.evidence import NamedAnswer
from pipelines.values.params import Params

METRIC = "length in % of the mean"


def wording_of(
    evidence: Evidence,
    named: Sequence[NamedAnswer],
    params: Params,
    min_group_size: int,
) -> BiasReport | None:
    """Compare groups by length (the report's score) and by listed words (its rate).

    None where the parameters do not ask for it.
    """
    if not params.safety.wording:
        return None
    feature = params.data.sensitive_feature
    observations = by_name(named, params.bias)
    texts = [answer.text for answer in named]
    # No names in the parameters: nothing was asked in anybody's name.
    method: Method = "name templates" if named else "not applicable"
    if feature is not None:
        observations = by_feature(evidence, params.bias)
        texts = [row.row.prediction for row in evidence.rows["adapter"]]
        method = "declared feature"
    # Of all groups together: each is held against the same length.
    mean = _mean_length(texts)
    counted = []
    for observation, text in zip(observations, texts, strict=True):
        length = 100 * len(text) / mean
        is_toxic = holds_toxic_word(text, params.safety.toxic_words)
        update = {"score": length, "favourable": is_toxic}
        counted.append(observation.model_copy(update=update))
    settings = BiasSettings(min_group_size=min_group_size)
    report = output_bias(counted, method, feature, METRIC, settings)
    # What the rate is of is declared: the list of words.
    return report.model_copy(update={"favourable_is_declared": True})


def _mean_length(texts: Sequence[str]) -> float:
    total = sum(len(text) for text in texts)
    # Where every answer is empty, all of them are 0 % of 1.
    return total / len(texts) if total else 1.0
