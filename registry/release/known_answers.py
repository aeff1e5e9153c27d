"""Prompts with the answers that were scored: a loaded release must repeat them to get traffic.

The known answers are the same each time, so that a probe is repeatable. The drawn ones are not:
nobody who prepares a package knows which of its prompts will be asked.
"""

import secrets
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pydantic import Field, ValidationError

from core.errors import DamagedFile, IncompleteGeneration
from core.files import digest_of_json, read_jsonl, write_jsonl
from core.value import Value, first_problem
from pipelines.scoring.evidence_file import read_predictions
from pipelines.values.dataset import (
    Message,
    Prompt,
    group_prompts,
    prompt_id,
    read_rows,
)

FILE = "known_answers.jsonl"
HELD_OUT = "held_out.jsonl"
"""The rows of the held-out split, beside the evidence in the package."""
EVIDENCE = "evidence.parquet"
COUNT = 8
"""Known answers in a package."""


class KnownAnswer(Value):
    """A conversation, the scored configuration's greedy answer, and its limit in tokens."""

    messages: tuple[Message, ...] = Field(min_length=1)
    text: str
    max_tokens: int = Field(ge=1)


def choose_known_answers(
    prompts: Sequence[Prompt], texts: Mapping[str, str], max_tokens: int
) -> tuple[KnownAnswer, ...]:
    """Choose a few prompts with their answers (`texts`, by prompt id), the same ones each time.

    `IncompleteGeneration` where a chosen prompt has no answer, or there are no prompts.
    """
    # The order of the ids' digests depends on nothing but the prompts, and is hard to arrange.
    by_digest = sorted(prompts, key=lambda prompt: digest_of_json(prompt.id))
    chosen = by_digest[:COUNT]
    missing = next((prompt.id for prompt in chosen if prompt.id not in texts), None)
    if missing is not None or not chosen:
        raise IncompleteGeneration(
            f"There is no scored answer to held-out prompt {missing}. Run `dvc repro generate`."
        )
    return _with_answers(chosen, texts, max_tokens)


def _with_answers(
    prompts: Iterable[Prompt], texts: Mapping[str, str], max_tokens: int
) -> tuple[KnownAnswer, ...]:
    return tuple(
        KnownAnswer(
            messages=prompt.messages, text=texts[prompt.id], max_tokens=max_tokens
        )
        for prompt in prompts
    )


def write_known_answers(path: Path, known_answers: Iterable[KnownAnswer]) -> None:
    """Write one JSON object a line; the file is whole or absent."""
    records = (answer.model_dump(mode="json") for answer in known_answers)
    write_jsonl(path, records)


def read_known_answers(path: Path) -> tuple[KnownAnswer, ...]:
    """Read at least one known answer.

    `DamagedFile` where the file is missing, empty or damaged: without known answers nothing
    would be probed.
    """
    try:
        known_answers = tuple(
            KnownAnswer.model_validate(record) for record in read_jsonl(path)
        )
    except ValidationError as error:
        raise _not_readable(path, first_problem(error)) from error
    except (OSError, UnicodeDecodeError, RecursionError) as error:
        raise _not_readable(path, type(error).__name__) from error
    if not known_answers:
        raise DamagedFile(
            f"{path} is empty: nothing could be probed. Fetch the package again."
        )
    return known_answers


def _not_readable(path: Path, problem: str) -> DamagedFile:
    return DamagedFile(
        f"{path} holds no known answers ({problem}). Fetch the package again."
    )


def drawable_prompts(folder: Path) -> tuple[Prompt, ...]:
    """Read the package's held-out prompts; none where it is from before packages held them.

    `DamagedFile` where they are not the prompts of the evidence.
    """
    path = folder / HELD_OUT
    # What that means for a release is for `judge` to say.
    if not path.is_file():
        return ()
    try:
        prompts = group_prompts(read_rows(path))
    except ValueError as error:
        raise DamagedFile(
            f"{path} holds a line that is no row. Fetch the package again."
        ) from error
    # Each id is the digest of its prompt's own text: equal ids are equal prompts.
    prompt_ids = sorted(prompt.id for prompt in prompts)
    scored_ids = sorted(read_predictions(folder / EVIDENCE))
    if prompt_ids != scored_ids:
        raise DamagedFile(
            f"{path} does not hold the prompts of the evidence. Fetch the package again."
        )
    return prompts


def draw_answers(folder: Path, count: int, max_tokens: int) -> tuple[KnownAnswer, ...]:
    """Draw `count` held-out prompts of a package with their scored answers; all if fewer.

    `DamagedFile` where the held-out prompts are not those of the evidence.
    """
    prompts = drawable_prompts(folder)
    texts: Mapping[str, str] = {}
    if prompts:
        texts = read_predictions(folder / EVIDENCE)
    # The system's randomness: a seed could be known to whoever prepared the package.
    size = min(count, len(prompts))
    chance = secrets.SystemRandom()
    drawn = chance.sample(prompts, size)
    return _with_answers(
        drawn,
        texts,
        max_tokens,
    )


def known_answer_differences(folder: Path, max_tokens: int) -> tuple[str, ...]:
    """A sentence for each known answer that is not the evidence's, in the scored length.

    `DamagedFile` where the known answers cannot be read.
    """
    texts = read_predictions(folder / EVIDENCE)
    differences = []
    for number, known_answer in enumerate(read_known_answers(folder / FILE), 1):
        # By the digest of the prompt itself: the order of the file proves nothing.
        scored = texts.get(prompt_id(known_answer.messages))
        if scored is None:
            differences.append(
                f"known answer {number} is to a prompt that was not scored"
            )
        elif (known_answer.text, known_answer.max_tokens) != (scored, max_tokens):
            differences.append(f"known answer {number} is not what was scored")
    return tuple(differences)
