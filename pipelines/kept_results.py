"""Where a stage keeps results on their way, until it has come to its end."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.settings import Settings
from pipelines.stage_key import stage_key


@contextmanager
def kept_results(stage: str) -> Iterator[Path]:
    """Give a folder of the home that a second run of the same work finds again.

    It is removed once the block has ended without an error: DVC holds the outs from there on.
    """
    home = Settings().home
    # By the key of the work, as checkpoints: another work never looks here.
    folder = home / "scratch" / stage_key(stage)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
