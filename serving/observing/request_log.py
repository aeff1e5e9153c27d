"""What the endpoint keeps of requests and of ratings, where its rules say so."""

import random
from pathlib import Path

from serving.feedback_schema import Rating
from serving.guardrails.rules import everything
from serving.guardrails.text_filter import filtered
from serving.observing.answer_facts import AnswerFacts
from serving.observing.exchange import Exchange
from serving.observing.metrics import OTHER, Metrics
from serving.observing.origin import Origin
from serving.observing.parquet import require_pyarrow
from serving.observing.reading import records_folder
from serving.observing.records import (
    FEEDBACK,
    REQUESTS,
    Bounds,
    Mask,
    RequestRecordRules,
    Row,
    Texts,
    feedback_row,
    request_row,
)
from serving.observing.store import RecordStore, Table


class RequestLog:
    """Keeps a share of all requests."""

    def __init__(self, home: Path, rules: RequestRecordRules, metrics: Metrics) -> None:
        require_pyarrow()
        self._share = rules.share
        self._metrics = metrics
        self._texts = Texts(rules.texts == "masked", new_mask())
        folder = records_folder(home) / "requests"
        table = Table("requests", REQUESTS, folder, rules)
        self._store = RecordStore(table, metrics)

    def wants_texts(self) -> bool:
        """Whether the next request is one of the share, texts and all."""
        return self._texts.are_kept

    def end(self, exchange: Exchange, facts: AnswerFacts) -> None:
        """Keep it, if it is one of the share."""
        # A share of requests, and no secret.
        is_drawn = random.random() < self._share  # noqa: S311
        if not exchange.is_answer or not is_drawn:
            return
        label, _ = self._metrics.labels_of(exchange)
        model = "" if label == OTHER else label
        size = len(exchange.request) + len(facts.text)

        # Masking takes milliseconds: it is done in the store's thread.
        def make() -> Row:
            return request_row(
                exchange,
                facts,
                model,
                self._texts,
            )

        self._store.put(make, size)

    def rate(self, rating: Rating, origin: Origin) -> None:
        """Ratings have a table of their own."""

    def close(self) -> None:
        """Write what waits."""
        self._store.close()


class FeedbackLog:
    """Keeps every rating, with its texts masked."""

    def __init__(self, home: Path, bounds: Bounds, metrics: Metrics) -> None:
        require_pyarrow()
        self._texts = Texts(are_kept=True, mask=new_mask())
        folder = records_folder(home) / "feedback"
        table = Table("feedback", FEEDBACK, folder, bounds)
        self._store = RecordStore(table, metrics)

    def wants_texts(self) -> bool:
        """Of requests it keeps nothing."""
        return False

    def end(self, exchange: Exchange, facts: AnswerFacts) -> None:
        """Of requests it keeps nothing."""

    def rate(self, rating: Rating, origin: Origin) -> None:
        """Keep a rating."""

        def make() -> Row:
            return feedback_row(
                rating,
                origin,
                self._texts,
            )

        texts = (rating.text or "") + (rating.correction or "")
        self._store.put(make, len(texts))

    def close(self) -> None:
        """Write what waits."""
        self._store.close()


def new_mask() -> Mask:
    """A function that masks whatever has the form of personal data or of a secret."""
    # Compiled once: it takes tens of milliseconds.
    patterns = everything()

    def mask(text: str) -> str:
        masked, _ = filtered(patterns, text)
        return masked

    return mask
