"""A prompt as a file: how a person writes it, and the folder in which a package holds it.

person    prompt.yaml or .json: `system: …`, `examples: [{user: …, assistant: …}]`
package   adapter/prompt.json, and nothing beside it
"""

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from core.errors import DamagedFile, ParameterError, UnsafeAdapter
from core.value import first_problem
from pipelines.values.fixed_prompt import FILE, FixedPrompt, PromptRecord

_MOST_BYTES = 4_000_000
# Of `few_shot_examples.json`, which may be given as it is.
_MEANS_NOTHING = {"dev_nats_per_token"}


def read_prompt_file(path: Path) -> FixedPrompt:
    """Read what a person wrote; `ParameterError` says what is wrong with it."""
    document = _read_document(path)
    kept = {key: part for key, part in document.items() if key not in _MEANS_NOTHING}
    examples = kept.get("examples")
    if isinstance(examples, list):
        kept["examples"] = [
            message for entry in examples for message in _messages_of(entry)
        ]
    try:
        return FixedPrompt.model_validate(kept)
    except ValidationError as error:
        raise ParameterError(
            f"{path} is no prompt: {first_problem(error)}. Write `system: TEXT`, "
            "`examples: [{user: TEXT, assistant: TEXT}]`, or both."
        ) from error


def has_prompt(folder: Path) -> bool:
    """Whether a folder that was checked holds a prompt in place of weights."""
    names = [path.name for path in folder.iterdir()]
    # Alone: a file that came in beside weights must not change their answers.
    return names == [FILE]


def read_prompt(folder: Path) -> FixedPrompt:
    """The prompt in a folder; `DamagedFile` where it is none."""
    return FixedPrompt.read(folder / FILE)


def check_prompt(folder: Path, record: PromptRecord, files: dict[str, str]) -> None:
    """Return only if the folder holds the recorded prompt, and nothing else.

    `files` are those that the adapter's record names, whose digests were compared already.
    """
    if set(files) != {FILE} or not has_prompt(folder):
        raise UnsafeAdapter(
            f"{folder} is recorded as a prompt and holds other files than {FILE}. "
            "Do not use it."
        )
    prompt = read_prompt(folder)
    if prompt.record(record.same_as) != record:
        raise DamagedFile(
            f"{folder / FILE} is another prompt than was recorded. Fetch the package again."
        )


def _messages_of(entry: Any) -> list[Any]:
    """One example as two messages, or a message as it is."""
    is_pair = isinstance(entry, dict) and set(entry) == {"user", "assistant"}
    if not is_pair:
        return [entry]
    return [{"role": role, "content": entry[role]} for role in ("user", "assistant")]


def _read_document(path: Path) -> dict[str, Any]:
    size = path.stat().st_size if path.is_file() else 0
    if size > _MOST_BYTES:
        raise ParameterError(
            f"{path} has {size} bytes, which no prompt has. Give another file."
        )
    try:
        # JSON is YAML.
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        kind = type(error).__name__
        raise ParameterError(
            f"{path} cannot be read as YAML ({kind}). Give a file with `system`, "
            "`examples`, or both."
        ) from error
    if not isinstance(document, dict):
        raise ParameterError(
            f"{path} holds no prompt. Write `system: TEXT`, "
            "`examples: [{user: TEXT, assistant: TEXT}]`, or both."
        )
    return document
