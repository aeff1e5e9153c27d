"""Retrieval: the most similar training rows as examples before each prompt.

    training rows ─► index (BM25) ─► k rows for a dev row ─► k with the lowest dev loss
                                 └─► k rows for a prompt ─► as many as fit, the most similar last

Only training rows are in the index: a dev or held-out row can never be an example.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.errors import IncompleteEvidence, UnusableRow
from core.value import FileDigest
from pipelines.models.answers import (
    Identity,
    Messages,
    count_longest_reference,
    insert_examples,
)
from pipelines.models.few_shot import join_messages, make_example
from pipelines.models.language_model import LanguageModel
from pipelines.models.resumed import Resumed
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.dataset import Message, Prompt, Row, read_rows
from pipelines.values.examples import Retrieved
from pipelines.values.params import FewShotParams, GenerationParams

_SETTINGS = {"method": "lucene", "k1": 1.5, "b": 0.75}
# Scripts that put no spaces between words: each character counts as a word there.
_UNSPACED = "\u0e00-\u0eff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")


@dataclass(frozen=True)
class Index:
    """Training rows, and BM25 over the words of their prompts."""

    rows: tuple[Row, ...]
    sha256: str
    ranker: Any

    @classmethod
    def of(cls, train: FileDigest) -> "Index":
        """Index the admitted training rows; `DamagedFile` where the file has changed."""
        rows = read_rows(train.checked())
        return cls(
            tuple(rows),
            train.sha256,
            _rank(rows),
        )

    def search(self, messages: Messages, count: int) -> list[Row]:
        """The `count` rows whose prompts are most similar, the most similar first.

        Rows that are equally similar come in the order of the data.
        """
        words = _words_of(messages)
        places = range(len(self.rows))
        # bm25s refuses a query without words: then no row is more similar than another.
        if not words or self.ranker is None:
            return list(self.rows[:count])
        scores = self.ranker.get_scores(words)
        # `sorted` keeps the order of equals; a partial sort, as bm25s has it, does not.
        ranked = sorted(places, key=lambda place: -float(scores[place]))
        return [self.rows[place] for place in ranked[:count]]


@dataclass(frozen=True)
class Retriever:
    """An index, and the number of examples that it puts before a prompt."""

    index: Index
    language: LanguageModel
    examples: int

    def before(self, prompt: Prompt, params: GenerationParams) -> list[Row]:
        """The rows before a prompt, most similar first: as many as fit beside its answer."""
        encoder = self.language.encoder
        longest = count_longest_reference(encoder, prompt)
        room_for_answer = max(longest, params.max_new_tokens)
        return self._fit(prompt.messages, room_for_answer)

    def before_row(self, row: Row) -> list[Row]:
        """The rows before a dev row whose answer is measured."""
        _, answer = self.language.encoder.encode_example(row.messages, row.completion)
        return self._fit(row.messages, len(answer))

    def _fit(self, messages: Messages, answer_tokens: int) -> list[Row]:
        """Search, and leave out the least similar until the rest fits; none may."""
        found = self.index.search(messages, self.examples)
        # An answer that is cut for want of room would count as a worse one.
        most = self.language.context_tokens - answer_tokens
        while found:
            asked = insert_examples(messages, as_messages(found))
            if len(self.language.encoder.prompt_ids(asked)) <= most:
                break
            found.pop()
        return found


def as_messages(found: Sequence[Row]) -> Messages:
    """Rows as the messages before a prompt: the most similar stands nearest to the question."""
    examples = [make_example(row) for row in reversed(found)]
    return join_messages(examples)


def choose_count(
    index: Index, asked: Resumed, dev: Sequence[Row], params: FewShotParams
) -> dict[int, float]:
    """The dev loss, in nats per completion token, by the number of examples.

    Tried are `params.examples` and its halves, `params.draws` numbers in all, as the few-shot
    search tries as many draws. The held-out split has no say.
    """
    counts = [params.examples >> halving for halving in range(params.draws)]
    # An index of five rows has no eight to give.
    most = len(index.rows)
    tried = sorted({min(count, most) for count in counts if count > 0})
    return {
        count: _measure_dev_loss(asked, Retriever(index, asked.language, count), dev)
        for count in tried
    }


def retrieve(
    retriever: Retriever, prompts: Sequence[Prompt], params: GenerationParams
) -> dict[str, list[Row]]:
    """By prompt, the rows before it."""
    return {prompt.id: retriever.before(prompt, params) for prompt in prompts}


def record_retrieved(
    retriever: Retriever,
    losses: Mapping[int, float],
    found: Mapping[str, Sequence[Row]],
) -> Retrieved:
    """What evidence keeps: which rows were found, and by which index."""
    by_prompt = {}
    for prompt_id, rows in found.items():
        keys = [f"{row.id}/{row.number}" for row in reversed(rows)]
        by_prompt[prompt_id] = tuple(keys)
    return Retrieved(
        method=_describe_method(),
        train_sha256=retriever.index.sha256,
        rows=len(retriever.index.rows),
        examples=retriever.examples,
        dev_nats_per_token=dict(losses),
        found=by_prompt,
    )


def identity_of(
    base: BaseModelManifest, record: Retrieved, found: Mapping[str, Sequence[Row]]
) -> Identity:
    """Who answers: the bare base after these rows."""
    return Identity(
        system="retrieval",
        base=base,
        retrieved={prompt_id: as_messages(rows) for prompt_id, rows in found.items()},
        retrieved_sha256=record.prefix_sha256,
    )


def best_count(losses: Mapping[int, float]) -> int:
    """The number of examples with the lowest dev loss; of equal ones the smallest.

    `IncompleteEvidence` where a loss is not a number: it is below none, and none is below it.
    """
    # `min` would take a NaN that comes first.
    if not all(math.isfinite(loss) for loss in losses.values()):
        raise IncompleteEvidence(
            "A dev loss after retrieved examples is not a number, so that none is the lowest. "
            "Take another base model, or lower few_shot.examples."
        )
    # The smallest of equals: every example makes a request dearer.
    return min(losses, key=lambda count: (losses[count], count))


def _measure_dev_loss(
    asked: Resumed, retriever: Retriever, dev: Sequence[Row]
) -> float:
    encoder = asked.language.encoder
    encoded: list[tuple[list[int], list[int]]] = []
    tokens = 0
    for row in dev:
        examples = as_messages(retriever.before_row(row))
        messages = insert_examples(row.messages, examples)
        example = encoder.encode_example(messages, row.completion)
        _, answer = example
        encoded.append(example)
        tokens += len(answer)
    if not encoded:
        raise UnusableRow(
            "There is no dev row to choose the number of retrieved examples by. "
            "Raise split.dev."
        )
    what = f"{retriever.examples} similar rows"
    nats = asked.losses(what, encoded, batch_size=32)
    return sum(nats) / tokens


def _rank(rows: Sequence[Row]) -> Any:
    """BM25 over the rows' words; None where no row has any."""
    words = [_words_of(row.messages) for row in rows]
    if not any(words):
        return None
    bm25s = _bm25s()
    ranker = bm25s.BM25(**_SETTINGS)
    ranker.index(words, show_progress=False)
    return ranker


def _bm25s() -> Any:
    import bm25s

    return bm25s


def _describe_method() -> str:
    from importlib.metadata import version

    settings = "|".join(f"{name}:{value}" for name, value in _SETTINGS.items())
    return f"bm25s|{version('bm25s')}|{settings}|words:lower"


def _words_of(messages: Sequence[Message]) -> list[str]:
    """The words of the conversation without its system message, in lower case."""
    # One system message may stand before every row: it makes none similar.
    spoken = [message.content for message in messages if message.role != "system"]
    text = " ".join(spoken)
    return _WORD.findall(text.lower())
