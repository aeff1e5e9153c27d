"""The record of a prompt that is judged as an adapter is, with losses that are measured here."""

import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from core.errors import ParameterError
from core.files import digest_of_files, folder_digests
from pipelines.models.language_model import LanguageModel, measure_completion_losses
from pipelines.models.refused_rows import name_refused
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.dataset import Prompt, Row, text_of
from pipelines.values.evidence import Adapter, DevLoss
from pipelines.values.fixed_prompt import FILE, FixedPrompt

_NOT_KNOWN = "unknown"


def place_prompt(prompt: FixedPrompt, folder: Path) -> None:
    """Write the prompt where training would have put weights."""
    # Whatever an earlier attempt left there must not be mixed with it.
    shutil.rmtree(folder, ignore_errors=True)
    prompt.write(folder / FILE)


def check_unseen(prompt: FixedPrompt, judging: Sequence[Prompt]) -> None:
    """Refuse examples that ask what the prompt is to be judged on; `ParameterError` names one.

    The answer to a held-out question in the prompt would be given back.
    """
    asked = [message for message in prompt.examples if message.role == "user"]
    # By words: another comma must not hide that it is the same question.
    held_out = {_words_of(text_of(each.messages)) for each in judging}
    for place, message in enumerate(asked, start=1):
        if _words_of(message.content) in held_out:
            raise ParameterError(
                f"Example {place} of the prompt asks what a held-out row asks. "
                "Take it out: it would be judged on its own answer."
            )


def measure_prompt(
    language: LanguageModel, rows: Sequence[Row], batch_size: int
) -> tuple[float, float]:
    """Nats a token of the rows' completions without the prompt, and after it.

    `UnusableRow` where a row is too long behind it.
    """
    # The same weights and rows: what differs is what the prompt is worth.
    bare = replace(language, encoder=language.encoder.bare)
    without = _mean_loss(bare, rows, batch_size)
    after = _mean_loss(language, rows, batch_size)
    return without, after


def record_prompt(
    place: tuple[Path, Path],
    prompt: FixedPrompt,
    base: BaseModelManifest,
    losses: tuple[float, float],
    same_as: Literal["few_shot"] | None,
) -> Adapter:
    """The record of the prompt in `place`: a root, and its folder below that.

    `losses` are those of dev rows without it and after it.
    """
    root, folder = place
    without, after = losses
    files = folder_digests(root / folder)
    return Adapter(
        folder=folder.as_posix(),
        files=files,
        sha256=digest_of_files(files),
        base_id=base.id,
        base_revision=base.revision,
        base_digest=base.digest,
        chat_template_sha256=base.chat_template_sha256,
        lora=None,
        steps=0,
        train_loss=after,
        dev_losses=(DevLoss(step=0, loss=without), DevLoss(step=0, loss=after)),
        best_step=0,
        moved=0.0,
        resumed_from=(),
        precision=_NOT_KNOWN,
        device=_NOT_KNOWN,
        real_tokens=0,
        seconds=0.0,
        prompt=prompt.record(same_as),
    )


def _words_of(text: str) -> tuple[str, ...]:
    """The words alone: case, signs and spaces make no other question."""
    words = re.findall(r"\w+", text.casefold())
    # A question of signs alone is still one.
    return tuple(words) or (text.strip(),)


def _mean_loss(language: LanguageModel, rows: Sequence[Row], batch_size: int) -> float:
    encoded = []
    tokens = 0
    for row in rows:
        with name_refused(row):
            example = language.encoder.encode_example(row.messages, row.completion)
        encoded.append(example)
        tokens += len(example[1])
    nats = measure_completion_losses(language, encoded, batch_size=batch_size)
    return sum(nats) / tokens
