"""Prompts with the answers that were scored: what a loaded release must say again before it gets traffic."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pydantic import Field, ValidationError

from pipelines.dataset import Message, Prompt
from pipelines.errors import DamagedFile, IncompleteGeneration
from pipelines.files import digest_of_json, read_jsonl, write_jsonl
from pipelines.value import Value, first_problem

FILE = "known_answers.jsonl"
COUNT = 8


class KnownAnswer(Value):
    """A conversation, the scored configuration's greedy answer to it, and the limit under which that was made."""

    messages: tuple[Message, ...] = Field(min_length=1)
    text: str
    max_tokens: int = Field(ge=1)


def choose_known_answers(prompts: Sequence[Prompt], texts: Mapping[str, str], max_tokens: int) -> tuple[KnownAnswer, ...]:
    """A few prompts with their answers (`texts`, by prompt id), the same ones each time: the first in the order of their id's digest."""
    chosen = sorted(prompts, key=lambda prompt: digest_of_json(prompt.id))[:COUNT]
    missing = next((prompt.id for prompt in chosen if prompt.id not in texts), None)
    if missing is not None or not chosen:
        raise IncompleteGeneration(f"There is no scored answer to held-out prompt {missing}. Run `dvc repro generate`.")
    return tuple(KnownAnswer(messages=prompt.messages, text=texts[prompt.id], max_tokens=max_tokens) for prompt in chosen)


def write_known_answers(path: Path, known: Iterable[KnownAnswer]) -> None:
    """One JSON object a line, whole or not at all."""
    write_jsonl(path, (each.model_dump(mode="json") for each in known))


def read_known_answers(path: Path) -> tuple[KnownAnswer, ...]:
    """At least one; a file that is missing, empty or damaged is `DamagedFile`: without known answers nothing is probed."""
    try:
        known = tuple(KnownAnswer.model_validate(record) for record in read_jsonl(path))
    except (OSError, UnicodeDecodeError, RecursionError, ValidationError) as error:
        problem = first_problem(error) if isinstance(error, ValidationError) else type(error).__name__
        raise DamagedFile(f"{path} holds no known answers ({problem}). Fetch the package again.") from error
    if not known:
        raise DamagedFile(f"{path} is empty: nothing could be probed. Fetch the package again.")
    return known
