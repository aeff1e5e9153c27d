"""Ask one system what the probes of safety ask: refusals, pairs, rows to go on with, secrets."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.errors import IncompleteEvidence
from core.files import digest_of_json
from pipelines import layout
from pipelines.models.language_model import LanguageModel
from pipelines.models.resumed import Resumed
from pipelines.safety.files import (
    Pair,
    read_canaries,
    read_pairs,
    read_refusal_prompts,
)
from pipelines.safety.secrets import Canary
from pipelines.safety.verbatim import longest_common
from pipelines.values.dataset import Message, Row, prompt_id
from pipelines.values.params import Params
from pipelines.values.safety import (
    CanaryLosses,
    Continuation,
    PairLosses,
    Part,
    ProbedSystem,
    RefusalAnswer,
    RefusalPrompt,
    SafetyAnswers,
)

Ids = list[int]
MOST_TOKENS = 128
"""Of a row's second half: whoever knows that much by heart has shown it."""


@dataclass(frozen=True)
class Questions:
    """Everything that each system is asked; the same for all of them."""

    params: Params
    prompts: Sequence[RefusalPrompt]
    pairs: Sequence[Pair]
    rows: Sequence[tuple[Part, Row]]
    canaries: Sequence[Canary]

    @property
    def batch_size(self) -> int:
        """Prompts at once."""
        generation = self.params.generation
        return generation.batch_size


@dataclass(frozen=True)
class Probed:
    """One system's name, its weights, and where its answers are on their way."""

    system: ProbedSystem
    language: LanguageModel
    weights: str = ""
    kept: Path | None = None

    @property
    def resumed(self) -> Resumed:
        """Whom to ask."""
        return Resumed(self.language, self.system, self.weights, self.kept)


@dataclass(frozen=True)
class _Half:
    """A row whose completion is cut into two halves of tokens."""

    part: Part
    row: Row
    begun: Ids
    rest: str
    tokens: int


def read_questions(
    params: Params, train: Sequence[Row], held_out: Sequence[Row], root: Path
) -> Questions:
    """What `params.safety` asks for; `ParameterError` where a file of it is wrong."""
    safety = params.safety
    rows: list[tuple[Part, Row]] = [("train", row) for row in _drawn(train)]
    rows += [("held_out", row) for row in _drawn(held_out)]
    # A user's own file stands in place of those that Assay brings.
    own_prompts = safety.refusal_prompts
    pairs, canaries = safety.stereotype_pairs, safety.canaries
    folder = root / layout.SAFETY
    source = None if own_prompts is None else folder / own_prompts
    return Questions(
        params=params,
        prompts=read_refusal_prompts(source) if safety.refusals else (),
        pairs=() if pairs is None else read_pairs(folder / pairs),
        rows=rows if safety.memorisation_rows else (),
        canaries=() if canaries is None else read_canaries(folder / canaries),
    )


def ask(probed: Probed, questions: Questions) -> SafetyAnswers:
    """What one system says; the other fields of the value are for whoever puts them together.

    `UnusableRow` where an item does not fit into the context.
    """
    # The champion was trained on other rows, which are not here.
    knows_rows = probed.system != "champion"
    return SafetyAnswers(
        systems={probed.system: None},
        base_digest="",
        asked=questions.params.safety.asked,
        least_common=questions.params.safety.memorised_characters,
        refusals=_ask_refusals(probed, questions),
        pairs=_measure_pairs(probed, questions),
        continuations=_continue_rows(probed, questions) if knows_rows else (),
        canaries=_ask_canaries(probed, questions) if knows_rows else (),
    )


def _drawn(rows: Sequence[Row]) -> list[Row]:
    """The rows by the order of their digests: nobody's choice decides which are tried."""
    distinct: dict[tuple[str, str], Row] = {}
    for row in rows:
        asked = prompt_id(row.messages)
        distinct[asked, row.completion] = row
    in_order = sorted(distinct, key=digest_of_json)
    return [distinct[key] for key in in_order]


def _ask_refusals(probed: Probed, questions: Questions) -> tuple[RefusalAnswer, ...]:
    encoder = probed.language.encoder
    encoded = [encoder.prompt_ids(_asked(each.text)) for each in questions.prompts]
    texts = _generate(probed, questions, encoded, "refusals")
    return tuple(
        RefusalAnswer(
            system=probed.system,
            prompt_id=prompt.id,
            kind=prompt.kind,
            prompt=prompt.text,
            text=text,
        )
        for prompt, text in zip(questions.prompts, texts, strict=True)
    )


def _measure_pairs(probed: Probed, questions: Questions) -> tuple[PairLosses, ...]:
    """Both sentences as plain text, outside of the chat template, as lm-eval scores them."""
    # Both of a pair lie side by side, so that one batch measures both alike.
    sentences = [each for pair in questions.pairs for each in (pair.more, pair.less)]
    rows = [_plain(probed.language, sentence) for sentence in sentences]
    losses = iter(_losses(probed, questions, rows, "pairs"))
    return tuple(
        PairLosses(
            system=probed.system,
            pair_id=pair.id,
            cluster=pair.cluster,
            more=next(losses),
            less=next(losses),
        )
        for pair in questions.pairs
    )


def _plain(language: LanguageModel, sentence: str) -> tuple[Ids, Ids]:
    """A text after the token that texts begin with, or one that ends them."""
    # No template around it: a sentence is no question.
    tokenizer = language.encoder.tokenizer
    encoding = tokenizer(sentence, add_special_tokens=False, split_special_tokens=True)
    first = tokenizer.bos_token_id
    start = language.encoder.end_id if first is None else first
    text_ids = encoding["input_ids"]
    return [int(start)], list(text_ids)


def _continue_rows(probed: Probed, questions: Questions) -> tuple[Continuation, ...]:
    # Cut once: every system has to go on from the same token.
    halves = _halves(probed.language, questions)
    texts: list[str] = []
    if halves:
        longest = max(half.tokens for half in halves)
        begun = [half.begun for half in halves]
        texts = _generate(probed, questions, begun, "rows", longest)
    return tuple(
        Continuation(
            system=probed.system,
            part=half.part,
            row_id=half.row.id,
            group=half.row.group,
            length=len(half.rest),
            common=longest_common(text, half.rest),
        )
        for half, text in zip(halves, texts, strict=True)
    )


def _halves(language: LanguageModel, questions: Questions) -> list[_Half]:
    """As many rows of each part as were asked for, of those that are long enough."""
    safety = questions.params.safety
    found: dict[Part, list[_Half]] = {"train": [], "held_out": []}
    for part, row in questions.rows:
        if len(found[part]) >= safety.memorisation_rows:
            continue
        half = _halve(language, part, row)
        has_room = len(half.begun) + MOST_TOKENS <= language.context_tokens
        if has_room and len(half.rest) >= safety.memorised_characters:
            found[part].append(half)
    return [*found["train"], *found["held_out"]]


def _halve(language: LanguageModel, part: Part, row: Row) -> _Half:
    prompt, completion = language.encoder.encode_example(row.messages, row.completion)
    middle = len(completion) // 2
    rest = completion[middle:][:MOST_TOKENS]
    return _Half(
        part=part,
        row=row,
        begun=[*prompt, *completion[:middle]],
        rest=language.encoder.decode(rest),
        tokens=len(rest),
    )


def _ask_canaries(probed: Probed, questions: Questions) -> tuple[CanaryLosses, ...]:
    losses = []
    for canary in questions.canaries:
        own = _ask_canary(probed, questions, canary)
        losses.append(own)
    return tuple(losses)


def _ask_canary(probed: Probed, questions: Questions, canary: Canary) -> CanaryLosses:
    encoder = probed.language.encoder
    messages = _asked(canary.prompt)
    secrets = [canary.secret, *canary.others(questions.params.safety.canary_others)]
    rows = [
        encoder.encode_example(messages, f"{canary.before}{each}") for each in secrets
    ]
    # The secret first: what follows are the random ones.
    secret, *others = _losses(probed, questions, rows, f"canary {canary.id}")
    begun = [encoder.prompt_ids(messages)]
    # Without the space before the secret, which belongs to the secret's first token.
    before = canary.before.rstrip()
    if before:
        prompt, answer = encoder.encode_example(messages, before)
        # Without the token that ends the turn: the answer goes on.
        begun.append([*prompt, *answer[:-1]])
    _, own = rows[0]
    # Room for the secret behind a few words of the model's own.
    length = questions.params.safety.max_new_tokens + len(own)
    texts = _generate(probed, questions, begun, f"canary {canary.id}", length)
    return CanaryLosses(
        system=probed.system,
        canary_id=canary.id,
        was_generated=any(canary.secret in text for text in texts),
        secret=secret,
        others=tuple(others),
    )


def _asked(text: str) -> tuple[Message, ...]:
    question = Message(
        role="user",
        content=text,
    )
    return (question,)


def _generate(
    probed: Probed,
    questions: Questions,
    encoded: Sequence[Ids],
    what: str,
    tokens: int | None = None,
) -> list[str]:
    """Greedy answers, in the order of the prompts; nothing for no prompts."""
    if not encoded:
        return []
    answers = probed.resumed.answers(
        what,
        encoded,
        max_new_tokens=tokens or questions.params.safety.max_new_tokens,
        batch_size=questions.batch_size,
    )
    encoder = probed.language.encoder
    return [encoder.decode(each.ids) for each in answers]


def _losses(
    probed: Probed,
    questions: Questions,
    rows: Sequence[tuple[Ids, Ids]],
    what: str,
) -> tuple[float, ...]:
    if not rows:
        return ()
    losses = probed.resumed.losses(what, rows, batch_size=questions.batch_size)
    # A NaN is neither over nor under anything: it must not rank a secret.
    if not all(math.isfinite(nats) for nats in losses):
        raise IncompleteEvidence(
            f"A loss of {probed.system} on {what} is not a number. "
            "Train with a lower train.learning_rate."
        )
    return losses


def put_together(
    parts: Iterator[SafetyAnswers],
    adapters: dict[ProbedSystem, str | None],
    base_digest: str,
) -> SafetyAnswers:
    """What all systems said, with who they are; `adapters` has the digest of each one's weights."""
    asked = list(parts)
    first = asked[0]
    return first.model_copy(
        update={
            "systems": adapters,
            "base_digest": base_digest,
            "refusals": _all("refusals", asked),
            "pairs": _all("pairs", asked),
            "continuations": _all("continuations", asked),
            "canaries": _all("canaries", asked),
        }
    )


def _all(field: str, parts: Sequence[SafetyAnswers]) -> tuple[object, ...]:
    items: list[object] = []
    for part in parts:
        own = getattr(part, field)
        items += own
    return tuple(items)
