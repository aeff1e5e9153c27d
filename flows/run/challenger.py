"""At most one challenger of a model is under review: whether a new finalist takes its place."""

from pathlib import Path

from core.errors import LedgerError
from core.value import Value
from flows.run.attempt import Attempt
from pipelines import layout
from pipelines.gates.policy import load_policy
from pipelines.scoring.evidence_file import read_evidence
from pipelines.values.evidence import Adapter, Scorecard
from registry.ledger.ledger import read_ledger
from registry.mlflow.recorded import CHALLENGER, CHAMPION, ModelVersion
from registry.mlflow.store import Store
from registry.release.succession import against_challenger, beats

SUPERSEDED_BY = "assay.superseded_by"


class Succession(Value):
    """Whether a finalist takes the alias `challenger`, and from which open challenger."""

    takes: bool
    over: ModelVersion | None = None
    shortfall: str = ""
    """Why it does not take the alias; empty where it does."""
    is_same: bool = False
    """The challenger is the same adapter: nothing is compared, and the newer evidence counts."""


def decide_succession(attempt: Attempt, scorecard: Scorecard) -> Succession:
    """Compare the finalist with the open challenger under the rules of `screen`.

    It takes the alias where there is no open challenger, or by beating it.
    """
    challenger = attempt.store.holder(attempt.model, CHALLENGER)
    # The same work again is the challenger itself, resumed after a kill.
    if challenger is None or challenger.logical_run == attempt.logical_run:
        return Succession(takes=True)
    if not _is_open(attempt.store, attempt.home, challenger):
        return Succession(takes=True)
    package = attempt.fetch_package(challenger)
    # Two runs can train the very same bytes: a comparison would be of a model with itself.
    adapter = Adapter.read(package / "adapter.json")
    if adapter.sha256 == scorecard.adapter.sha256:
        return Succession(
            takes=True,
            over=challenger,
            is_same=True,
        )
    findings = against_challenger(
        scorecard,
        read_evidence(scorecard.evidence.checked(attempt.root)),
        read_evidence(package / "evidence.parquet"),
        load_policy(attempt.root / layout.POLICY),
        attempt.root,
    )
    # An undecided comparison is no win: the older challenger stays under review.
    if beats(findings):
        return Succession(takes=True, over=challenger)
    failed = (finding.text for finding in findings if finding.outcome != "passed")
    # The rules of `screen` speak of a champion; here it is the challenger.
    name = f"challenger {challenger.version}"
    shortfall = next(failed, "no rule was judged").replace("champion", name)
    return Succession(
        takes=False,
        over=challenger,
        shortfall=shortfall,
    )


def settle_succession(store: Store, succession: Succession, version: str) -> str:
    """Mark the challenger that was superseded, and say what became of the alias."""
    challenger = succession.over
    if challenger is None:
        return "alias challenger"
    if not succession.takes:
        return (
            f"version {version} does not beat challenger {challenger.version}, "
            f"which stays under review: {succession.shortfall}"
        )
    # The page of the one that loses the alias says to whom.
    store.annotate(challenger, {SUPERSEDED_BY: version})
    how = "as the same adapter, judged again" if succession.is_same else "by beating it"
    return f"alias challenger, which it takes from version {challenger.version} {how}"


def _is_open(store: Store, home: Path, challenger: ModelVersion) -> bool:
    """Whether it is still under review: not the champion, never released, not revoked."""
    champion = store.holder(challenger.name, CHAMPION)
    if champion is not None and champion.version == challenger.version:
        return False
    try:
        model = read_ledger(home).state().model(challenger.name)
    except LedgerError:
        # Without a ledger nothing was released or revoked: the review goes on.
        return True
    if challenger.version in model.revoked:
        return False
    released = (recorded.release.version for recorded in model.once_served)
    return challenger.version not in released
