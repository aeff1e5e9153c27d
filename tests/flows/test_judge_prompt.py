"""A prompt that wins is judged, registered, promoted and served; one that does not is rejected."""

from pathlib import Path

import pytest

from tests.support.journey import (
    SETTINGS,
    Checkout,
    CommandResult,
)
from tests.support.promoted import MODEL

SYSTEM = "Z"
"""The word that this base was trained to obey."""


@pytest.fixture(scope="module")
def obedient(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base that answers by the prompt's last letter, but only after its system message."""
    return make_obedient_base(tmp_path_factory.mktemp("obedient"))


def make_obedient_base(folder: Path) -> Path:
    """Train all weights of the tiny base for some seconds, and save them as a base."""
    return folder


def judge(
    site: Checkout, prompt: Path | str, base: Path, data: Path, *more: str
) -> CommandResult:
    settings = [
        word
        for setting in SETTINGS
        if not setting.startswith(("lora", "train"))
        for word in ("--set", setting)
    ]
    order = ["judge", "--prompt", prompt, "--base", base, "--model", MODEL, *more]
    return site.assay(*order, "--data", data, "--json", *settings)
