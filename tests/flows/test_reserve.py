"""The sealed reserve in real runs: a block is opened for what passed, once, and never again."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from registry.ledger.ledger import open_ledger
from tests.support.journey import (
    Checkout,
    CommandResult,
    learnable_rows,
    make_checkout,
    run_arguments,
    write_rows,
)

pytestmark = pytest.mark.ci
ROWS = 480
"""About 120 groups are held out, of which half are sealed."""


@dataclass(frozen=True)
class Sealed:
    """A checkout whose policy seals a reserve, and its first run."""

    checkout: Checkout
    arguments: tuple[str | Path, ...]
    first: CommandResult

    def run(self, *more: str) -> CommandResult:
        return self.checkout.assay(*self.arguments, *more)

    def kinds(self) -> list[str]:
        entries = open_ledger(self.checkout.home).entries()
        return [entry.body.kind for entry in entries]


@pytest.fixture(scope="module")
def sealed(
    prefect: None,
    cloned: Path,
    empty_mlflow: Path,
    tiny_base: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Sealed:
    root = tmp_path_factory.mktemp("sealed")
    checkout = make_checkout(root / "assay", cloned, empty_mlflow)
    policy = checkout.root / "registry/policies/default.yaml"
    text = policy.read_text(encoding="utf-8")
    policy.write_text(
        text.replace("reserve: none", "reserve: sealed"), encoding="utf-8"
    )
    data = write_rows(root / "letters.jsonl", learnable_rows(ROWS))
    arguments = tuple(run_arguments(data, tiny_base))
    return Sealed(checkout, arguments, checkout.assay(*arguments))


def test_what_passes_is_confirmed_on_a_block_before_it_is_registered(
    sealed: Sealed,
) -> None:
    assert sealed.first.code == 0, sealed.first.out + sealed.first.err
    assert "Confirmation 1 of this year at level 0.0219 on" in sealed.first.out
    kinds = [kind for kind in sealed.kinds() if kind != "key_added"]
    assert kinds[:4] == ["opened", "block_opened", "block_closed", "registered"]
