"""`assay policy init`: look at rows, propose a policy for them with reasons, and write its file."""

import math
from pathlib import Path
from shlex import quote
from typing import Any

import yaml
from pydantic import Field

from core.environment import set_library_environment
from core.errors import ParameterError, UnreadableData
from core.files import write_text
from core.project import find_root
from core.value import Value
from operations.originals import originals
from pipelines import layout
from pipelines.gates.policy import load_policy
from pipelines.gates.proposal import Proposal, propose
from pipelines.rows.formats import ReadAs, read_records
from pipelines.rows.reading import read_rows_of
from pipelines.stages.split import Splits, split
from pipelines.values.dataset import group_prompts
from pipelines.values.params import Params, parse_assignment, preview_override
from registry.ledger.entries import MODEL_NAME

_TOKENS = 64
"""What own rows are answered with where nothing is said."""
_CHARACTERS_A_TOKEN = 3
_STEP = 32


class PolicyRequest(Value):
    """Which rows a policy is for, and where to write it."""

    file: Path
    out: Path | None = None
    model: str | None = Field(default=None, pattern=MODEL_NAME)
    settings: tuple[str, ...] = ()


class WrittenPolicy(Value):
    """A policy that was written, why it is so, and how to use it."""

    path: Path
    proposal: Proposal
    command: str

    @property
    def text(self) -> str:
        """The reasons, a line each, and the next command."""
        reasons = [f"- {reason}." for reason in self.proposal.reasons]
        return "\n".join(
            [
                f"{self.path}: {self.proposal.task}",
                *reasons,
                f"Next: {self.command}",
            ]
        )


def init_policy(request: PolicyRequest) -> WrittenPolicy:
    """Write a policy for the rows of a file.

    `ParameterError` where there is a file already, `UnreadableData` where no row can be used.
    """
    set_library_environment()
    root = _find_root()
    path = _target(request, root)
    # A policy is reviewed by people: none is written over.
    if path.exists():
        raise ParameterError(
            f"{path} is there already. Name another file with --out, or remove it."
        )
    splits = _split_rows(request, _read_params(request, root))
    # References alone are looked at, and no answer: the held-out rows stay unspent.
    rows = (*splits.train, *splits.dev, *splits.held_out)
    default = load_policy(root / layout.POLICY).gates
    held_out = group_prompts(splits.held_out)
    proposal = propose(group_prompts(rows), held_out, default)
    _write(path, proposal, root / layout.POLICY)
    longest = max(len(row.completion) for row in rows)
    return WrittenPolicy(
        path=path,
        proposal=proposal,
        command=_command(
            request,
            path,
            proposal,
            longest,
        ),
    )


def _target(request: PolicyRequest, root: Path) -> Path:
    out, model = request.out, request.model
    if out is not None:
        return out
    if model is None:
        return Path("policy.yaml")
    # Where runs and releases of the model look for it.
    policies = root / layout.POLICIES
    name = f"{model}.yaml"
    return policies / name


def _split_rows(request: PolicyRequest, params: Params) -> Splits:
    """The rows as a run would read and split them."""
    # The same functions as in the stages, so that a run does as it says.
    read_as = ReadAs.of(params.data)
    opened = read_records(request.file, read_as)
    found = read_rows_of(
        opened.records,
        params.data,
        str(request.file),
    )
    # What `validate` would set aside says nothing of the task.
    rows = []
    for row in found.rows:
        has_prompt = bool(row.prompt.strip())
        has_completion = bool(row.completion.strip())
        if has_prompt and has_completion:
            rows.append(row)
    if not rows:
        raise UnreadableData(
            f"No row of {request.file} can be used. `assay data inspect` says why."
        )
    return split(rows, None, params.split)


def _read_params(request: PolicyRequest, root: Path) -> Params:
    assignments: dict[str, Any] = {}
    for text in request.settings:
        name, setting = parse_assignment(text)
        assignments[name] = setting
    return preview_override(root / layout.PARAMS, assignments)


def _find_root() -> Path:
    """The project or, outside of any, what this code came with."""
    here = Path.cwd()
    root = find_root(here)
    # Somebody may look at rows before there is a project for them.
    if root is None:
        return originals()
    return root


def _write(path: Path, proposal: Proposal, default: Path) -> None:
    """Write the policy with its reasons as comments, once it is known to load."""
    # From the project's own policy: what is not proposed stays as people decided it.
    text = default.read_text(encoding="utf-8")
    document = yaml.safe_load(text)
    changed = proposal.applied_to(document, path.stem)
    reasons = [f"# {reason}." for reason in proposal.reasons]
    first = f"# Proposed by `assay policy init` for rows of this kind: {proposal.task}."
    body = yaml.safe_dump(changed, sort_keys=False, allow_unicode=True)
    # Beside it: a file under its name is always one that loads.
    draft = path.with_name(f".{path.name}.draft")
    try:
        lines = [first, *reasons, body]
        write_text(draft, "\n".join(lines))
        load_policy(draft)
        draft.rename(path)
    finally:
        draft.unlink(missing_ok=True)


def _command(
    request: PolicyRequest, path: Path, proposal: Proposal, longest: int
) -> str:
    metrics = ", ".join(proposal.metrics)
    words = [
        "assay run --data",
        quote(str(request.file)),
        "--policy",
        quote(str(path)),
        f'--set "score.metrics=[{metrics}]"',
    ]
    # JSON that is cut off is no JSON.
    tokens = _STEP * math.ceil(longest / _CHARACTERS_A_TOKEN / _STEP)
    if tokens > _TOKENS:
        words.append(f"--set generation.max_new_tokens={tokens}")
    for text in request.settings:
        # The run must read the rows as this policy saw them.
        setting = quote(text)
        words.append(f"--set {setting}")
    return " ".join(words)
