"""Semantic similarity: how near an answer is to its reference by a sentence model's vectors."""

from collections.abc import Iterable, Mapping, Sequence

from pipelines.metrics.metric import (
    FloatArray,
    References,
    ScoredRow,
    describe_unfit,
)
from pipelines.metrics.sentence_model import MOST_TOKENS, WEIGHTS_SHA256, embed
from pipelines.metrics.shares import share_of

_DIGITS = 6
"""Machines differ beyond them, so that a gate on another one counts the same."""
Vectors = Mapping[str, FloatArray]


class SemanticSimilarity:
    """Mean cosine of answer and nearest reference, 0 to 1; what points away counts as 0.

    It sees what is spoken of, and hardly what is said of it: "approved" and "not approved" are
    near. Beside a metric of the task it tells a paraphrase from a miss; it is no primary metric
    where a word decides.
    Source: Reimers and Gurevych 2019, "Sentence-BERT".
    """

    name = "semantic_similarity"
    unit = "0 to 1"
    higher_is_better = True
    scale = 1.0
    worst: float | None = 0.0
    compares_answers = True
    stand_in: str | None = None

    def __init__(self, vectors: Vectors | None = None) -> None:
        self._vectors: Vectors = vectors or {}

    @classmethod
    def of_rows(cls, rows: Iterable[ScoredRow]) -> "SemanticSimilarity":
        """With the vectors of all texts of the rows, computed together: a batch takes less."""
        texts = []
        for row in rows:
            texts.append(row.prediction)
            texts += row.references
        vectors = embed_texts(texts)
        return cls(vectors)

    def row_statistics(self, row: ScoredRow) -> tuple[float, ...]:
        """The cosine with the nearest reference, and one row."""
        # A vector of nothing has a direction, too.
        if not row.prediction.strip():
            return 0.0, 1.0
        texts = (row.prediction, *row.references)
        known = self._vectors
        # A row that nobody announced, such as one by itself.
        is_announced = all(text in known for text in texts)
        if not is_announced:
            known = embed_texts(texts)
        answer = known[row.prediction]
        cosines = [float(answer @ known[text]) for text in row.references]
        nearest = min(1.0, max(0.0, *cosines))
        return round(nearest, _DIGITS), 1.0

    def corpus(self, sums: FloatArray) -> FloatArray:
        """The mean over rows."""
        return share_of(sums)

    def signature(self, rows: Sequence[ScoredRow]) -> str:
        """Which model's vectors, and of how much of a text."""
        del rows
        model = f"model:all-MiniLM-L6-v2@{WEIGHTS_SHA256[:12]}"
        return f"{model}|tokens:{MOST_TOKENS}|pooling:mean|reference:best"

    def inapplicable(self, references: References) -> str | None:
        """Not where half of the prompts have a reference that the model cannot read."""
        return describe_unfit(
            references,
            _is_readable,
            "a reference of mostly other than Latin letters, which the sentence model was not "
            "trained on. Score chrf",
        )


def embed_texts(texts: Iterable[str]) -> Vectors:
    """The vector of each text, once."""
    # Two systems often say the same, and every row of a prompt has its references.
    distinct = list(dict.fromkeys(texts))
    vectors = embed(distinct)
    return dict(zip(distinct, vectors, strict=True))


def _is_readable(text: str) -> bool:
    letters = 0
    latin = 0
    for sign in text:
        is_letter = sign.isalpha()
        letters += is_letter
        # Latin letters with and without marks come before the other alphabets.
        latin += is_letter and sign < "\u0250"
    return 2 * latin > letters
