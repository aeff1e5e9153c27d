"""The confirmation in a folder of evidence: what the opened block showed, counted once more.

`confirmation/` holds the block's rows, both systems' evidence, and what was made of them. That the
block was opened, once and at this level, the ledger says: `registry.ledger.confirmations`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.errors import DamagedFile
from core.files import sha256_of
from pipelines.gates.comparisons import list_differences
from pipelines.gates.confirmation import (
    choose_prompt,
    compare_on_block,
    find_block_faults,
    margin_on_block,
)
from pipelines.gates.policy import ScreenPolicy
from pipelines.scoring.evidence_file import Evidence, read_evidence
from pipelines.values.champion import ChampionInput
from pipelines.values.dataset import Row, read_rows
from pipelines.values.evidence import Scorecard, System
from pipelines.values.reserve import Block, Confirmation
from pipelines.values.verdict import Comparison
from registry.ledger.entries import BlockClosed, BlockOpened
from registry.release.makers import expected_makers

FOLDER = "confirmation"
STORED, ROWS, _EVIDENCE = "confirmation.json", "rows.jsonl", "evidence.parquet"
RETRIEVED = "retrieved_examples.json"
"""Only there where the block was compared with retrieval."""
FILES = (STORED, ROWS, _EVIDENCE, RETRIEVED)


@dataclass(frozen=True)
class Opened:
    """A block that was opened, as it lies in the folder."""

    block: Block
    rows: tuple[Row, ...]
    evidence: Evidence


@dataclass(frozen=True)
class StoredConfirmation:
    """What a folder holds; without `opened` it says why no block was."""

    confirmation: Confirmation
    opened: Opened | None


def read_confirmation(folder: Path) -> StoredConfirmation | None:
    """Read a folder's confirmation; None where it holds none.

    `DamagedFile` where rows or evidence are not those that the confirmation names.
    """
    inside = folder / FOLDER
    if not inside.is_dir():
        return None
    confirmation = Confirmation.read(inside / STORED)
    block = confirmation.block
    if block is None:
        return StoredConfirmation(confirmation, None)
    named = {ROWS: confirmation.rows, _EVIDENCE: confirmation.evidence}
    for name, digest in named.items():
        path = inside / name
        # The digest comes first: nothing is computed from other bytes.
        if digest is None or not path.is_file() or sha256_of(path) != digest.sha256:
            raise DamagedFile(
                f"{path} is not the file that the confirmation names. "
                "Bring back the file that was stored with it."
            )
    rows = read_rows(inside / ROWS)
    opened = Opened(block, rows, read_evidence(inside / _EVIDENCE))
    return StoredConfirmation(confirmation, opened)


def is_of_block(
    stored: StoredConfirmation, opened: BlockOpened, closed: BlockClosed | None
) -> bool:
    """Whether the folder holds what a ledger says of a block: its rows, level and evidence."""
    block = stored.confirmation.block
    evidence = stored.confirmation.evidence
    # A block that nobody closed has shown nothing yet.
    if block is None or evidence is None or closed is None:
        return False
    # Each by itself: one that differs is enough to be another test.
    claims = (
        block.number == opened.number,
        block.level == opened.level,
        block.rows_sha256 == opened.rows_sha256,
        block.against == opened.against,
        evidence.sha256 == closed.evidence_sha256,
    )
    return all(claims)


def confirm_again(stored: StoredConfirmation, policy: ScreenPolicy) -> Confirmation:
    """The confirmation as a policy sees it, from the stored evidence alone."""
    opened = stored.opened
    if opened is None:
        return stored.confirmation
    if policy.primary not in opened.evidence.metrics:
        scored = ", ".join(opened.evidence.metrics)
        return Confirmation(
            missing=f"The block was scored by {scored}, and the policy's primary metric is "
            f"{policy.primary}: train again, to have it confirmed by that one"
        )
    comparison = compare_on_block(
        opened.evidence, policy, opened.block.against, opened.block.level
    )
    # By the policy that asks, and not by what the block says of itself.
    margin = margin_on_block(policy, opened.block.against)
    block = opened.block.model_copy(update={"margin": margin})
    changes = {"comparison": comparison, "block": block}
    return stored.confirmation.model_copy(update=changes)


def confirmation_differences(
    folder: Path,
    stored: StoredConfirmation,
    scorecard: Scorecard,
    policy: ScreenPolicy,
    comparisons: Sequence[Comparison],
) -> Iterator[str]:
    """Where a confirmation does not follow from its evidence, or is about something else.

    `comparisons` are those on the rows that judge every candidate.
    """
    opened = stored.opened
    if opened is None:
        return
    again = confirm_again(stored, policy)
    yield from list_differences(
        "confirmation",
        stored.confirmation.model_dump(mode="json"),
        again.model_dump(mode="json"),
    )
    standing = read_rows(folder / "held_out.jsonl")
    yield from find_block_faults(
        opened.block,
        opened.rows,
        standing,
    )
    champion = ChampionInput.read(folder / "champion.json")
    makers = expected_makers(scorecard, champion)
    opponent: System = "champion"
    if champion.champion is None:
        # Which prompt is the best one follows from the other evidence.
        itself = scorecard.adapter.is_baseline
        opponent = choose_prompt(comparisons, policy.primary, itself)
    expected = {system: makers[system] for system in ("adapter", opponent)}
    made_by = opened.evidence.made_by
    if made_by != expected:
        systems = ", ".join(expected)
        yield (
            f"confirmation: what answered is not {systems} in the configuration that the "
            "scorecard names"
        )
    if set(opened.evidence.rows) != set(expected):
        yield "confirmation: other systems answered than those that are compared"
