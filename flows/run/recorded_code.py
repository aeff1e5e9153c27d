"""The code that an earlier run ran, as its git ref keeps it."""

from pathlib import Path

from pydantic import ValidationError

from core.git import git
from pipelines import layout
from pipelines.__main__ import STAGES
from pipelines.stage_code import StageCode


def recorded_codes(root: Path, ref: str) -> dict[str, StageCode]:
    """The code of each stage in a commit of a run.

    Empty for a commit that is not there, and for runs of an Assay that did not record it.
    """
    codes = {}
    for stage in STAGES:
        name = f"{ref}:./{layout.CODE.as_posix()}/{stage}.json"
        text = git(root, "cat-file", "blob", name, check=False)
        try:
            codes[stage] = StageCode.model_validate_json(text)
        except ValidationError:
            # Said by its absence: what was not recorded cannot be compared.
            continue
    return codes
