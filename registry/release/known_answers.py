"""Prompts with the answers that were scored: what a loaded release must say again before it gets traffic.

The known answers are the same each time, so that a probe is repeatable. The drawn ones are not: nobody who
prepares a package knows which of its prompts will be asked.
"""

import secrets
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pydantic import Field, ValidationError

from core.errors import DamagedFile, IncompleteGeneration
from core.files import digest_of_json, read_jsonl, write_jsonl
from core.value import Value, first_problem
from pipelines.scoring.evidence_file import read_predictions
from pipelines.values.dataset import Message, Prompt, prompt_id, prompts_of, read_rows

FILE = "known_answers.jsonl"
HELD_OUT = "held_out.jsonl"
"""The rows of the held-out split, beside the evidence in the package."""
EVIDENCE = "evidence.parquet"
COUNT = 8


class KnownAnswer(Value):
    """A conversation, the scored configuration's greedy answer to it, and the limit under which that was made."""

    messages: tuple[Message, ...] = Field(min_length=1)
    text: str
    max_tokens: int = Field(ge=1)


def choose_known_answers(
    prompts: Sequence[Prompt], texts: Mapping[str, str], max_tokens: int
) -> tuple[KnownAnswer, ...]:
    """A few prompts with their answers (`texts`, by prompt id), the same ones each time: the first in the order of their id's digest."""
    chosen = sorted(prompts, key=lambda prompt: digest_of_json(prompt.id))[:COUNT]
    missing = next((prompt.id for prompt in chosen if prompt.id not in texts), None)
    if missing is not None or not chosen:
        raise IncompleteGeneration(
            f"There is no scored answer to held-out prompt {missing}. Run `dvc repro generate`."
        )
    return tuple(
        KnownAnswer(
            messages=prompt.messages, text=texts[prompt.id], max_tokens=max_tokens
        )
        for prompt in chosen
    )


def write_known_answers(path: Path, known: Iterable[KnownAnswer]) -> None:
    """One JSON object a line, whole or not at all."""
    write_jsonl(path, (each.model_dump(mode="json") for each in known))


def read_known_answers(path: Path) -> tuple[KnownAnswer, ...]:
    """At least one; a file that is missing, empty or damaged is `DamagedFile`: without known answers nothing is probed."""
    try:
        known = tuple(KnownAnswer.model_validate(record) for record in read_jsonl(path))
    except (OSError, UnicodeDecodeError, RecursionError, ValidationError) as error:
        problem = (
            first_problem(error)
            if isinstance(error, ValidationError)
            else type(error).__name__
        )
        raise DamagedFile(
            f"{path} holds no known answers ({problem}). Fetch the package again."
        ) from error
    if not known:
        raise DamagedFile(
            f"{path} is empty: nothing could be probed. Fetch the package again."
        )
    return known


def drawable_prompts(folder: Path) -> tuple[Prompt, ...]:
    """The package's held-out prompts; none where it is from before packages held their rows.

    `DamagedFile` where they are not the prompts of the evidence: each id is the digest of its prompt's own text.
    """
    path = folder / HELD_OUT
    if not path.is_file():
        return ()
    try:
        prompts = prompts_of(read_rows(path))
    except ValueError as error:
        raise DamagedFile(
            f"{path} holds a line that is no row. Fetch the package again."
        ) from error
    if sorted(prompt.id for prompt in prompts) != sorted(
        read_predictions(folder / EVIDENCE)
    ):
        raise DamagedFile(
            f"{path} does not hold the prompts of the evidence. Fetch the package again."
        )
    return prompts


def draw_answers(folder: Path, count: int, max_tokens: int) -> tuple[KnownAnswer, ...]:
    """`count` held-out prompts of a package, drawn by chance, with the answers that were scored; all where there are fewer."""
    prompts = drawable_prompts(folder)
    texts = read_predictions(folder / EVIDENCE) if prompts else {}
    drawn = secrets.SystemRandom().sample(prompts, min(count, len(prompts)))
    return tuple(
        KnownAnswer(
            messages=prompt.messages, text=texts[prompt.id], max_tokens=max_tokens
        )
        for prompt in drawn
    )


def known_answer_differences(folder: Path, max_tokens: int) -> tuple[str, ...]:
    """Each known answer that is not what the evidence says the adapter answered, in the scored length."""
    texts = read_predictions(folder / EVIDENCE)
    found = []
    for number, known in enumerate(read_known_answers(folder / FILE), 1):
        scored = texts.get(prompt_id(known.messages))
        if scored is None:
            found.append(f"known answer {number} is to a prompt that was not scored")
        elif (known.text, known.max_tokens) != (scored, max_tokens):
            found.append(f"known answer {number} is not what was scored")
    return tuple(found)
