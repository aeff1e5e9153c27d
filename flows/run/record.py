"""From a verdict to MLflow and the ledger: the run's evidence, and the version of a finalist."""

from core.errors import DamagedFile
from flows.run.artifacts import Verdict, build_package, collect_evidence, lineage_of
from flows.run.attempt import Attempt
from flows.run.challenger import decide_succession, settle_succession
from flows.run.extra_metrics import extra_metrics
from flows.run.outcome import Outcome
from flows.run.previous import champions_outcome
from flows.run.registration import enter_version
from flows.run.scorecard_page import log_scores, write_page
from flows.signing import sign_own_package
from pipelines import layout
from pipelines.gates.policy import load_policy
from pipelines.models.adapter_files import check_adapter
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.champion import Champion
from pipelines.values.evidence import Scorecard
from pipelines.values.verdict import Finalist
from registry.ledger.ledger import open_ledger
from registry.mlflow.card import Lineage, describe
from registry.mlflow.recorded import (
    MADE_AGAIN,
    PRIMARY,
    VERDICT,
    VERSION,
    Page,
    Submission,
)
from registry.release.recompute import recompute


def record_verdict(
    attempt: Attempt, verdict: Verdict | Champion, *, registers: bool = True
) -> Outcome:
    """Put verdict and evidence on the MLflow run, and register the version of a finalist.

    A champion instead of a verdict means that training made the champion's own adapter again.
    `registers` is False where the champion is scored again: it has a version already.
    `DamagedFile` where the verdict does not follow from its evidence.
    """
    # Training made the champion's adapter again: there is no verdict and no new version.
    if isinstance(verdict, Champion):
        return _record_champion(attempt, verdict)
    scorecard = None
    if verdict.gate == "screen":
        scorecard = Scorecard.read(attempt.root / layout.SCORECARD)
    lineage = lineage_of(attempt.workspace, verdict.policy_sha256, attempt.logical_run)
    description = describe(verdict, scorecard, lineage)
    tags = {VERDICT: verdict.verdict, **lineage.tags()}
    if scorecard is not None:
        # The trend of many runs goes by it.
        tags[PRIMARY] = load_policy(attempt.root / layout.POLICY).gates.screen.primary
    page = Page(
        description=description,
        tags=tags,
    )
    # A rejected run keeps its evidence, too: the reasons must be open to a second look.
    version, note = None, ""
    if isinstance(verdict, Finalist) and scorecard is not None and registers:
        version, note = _register(
            attempt,
            verdict,
            scorecard,
            lineage,
            page,
        )
    shown = extra_metrics(scorecard)
    if shown:
        attempt.store.runs.log_metrics(attempt.run.run_id, 0, shown)
    # Last of all: a run with a verdict is taken as done by the next one.
    evidence = collect_evidence(attempt.workspace, verdict)
    if scorecard is not None:
        write_page(attempt, evidence)
        log_scores(attempt, verdict, scorecard)
    attempt.store.runs.record_verdict(attempt.run.run_id, evidence, page)
    return Outcome(
        verdict=verdict.verdict,
        gate=verdict.gate,
        findings=verdict.findings,
        scorecard=scorecard,
        model=attempt.model,
        version=version,
        run_id=attempt.run.run_id,
        note=note,
    )


def _register(
    attempt: Attempt,
    finalist: Finalist,
    scorecard: Scorecard,
    lineage: Lineage,
    page: Page,
) -> tuple[str, str]:
    """Register the finalist and enter its version.

    Gives the version's number, and what became of the challenger.
    """
    _check_verdict(attempt, finalist, scorecard)
    package = build_package(
        attempt.workspace,
        finalist,
        scorecard,
        lineage,
    )
    ledger, packages = open_ledger(attempt.home), attempt.home / "packages"
    # Before the upload: no version is there without its signature, at no moment.
    sign_own_package(ledger, package)
    succession = decide_succession(attempt, scorecard)
    submission = Submission(
        run=attempt.run,
        package=package,
        model=attempt.model,
        logical_run=attempt.logical_run,
        page=page,
        takes_challenger=succession.takes,
    )
    version = attempt.store.register(finalist, submission)
    # MLflow can be edited: only what the ledger names may be judged for a release.
    enter_version(
        ledger,
        attempt.store,
        packages,
        version,
        package,
    )
    return version.version, settle_succession(
        attempt.store, succession, version.version
    )


def _record_champion(attempt: Attempt, champion: Champion) -> Outcome:
    """End a run that made the champion again: its page names the version, and there is no other."""
    version = attempt.store.get_version(attempt.model, champion.version)
    outcome = champions_outcome(attempt.store, version, attempt.home)
    outcome = outcome.model_copy(update={"run_id": attempt.run.run_id})
    policy = load_policy(attempt.root / layout.POLICY)
    lineage = lineage_of(attempt.workspace, policy.sha256, attempt.logical_run)
    tags = {
        VERDICT: MADE_AGAIN,
        VERSION: version.version,
        **lineage.tags(),
    }
    page = Page(description=f"{outcome.result}.", tags=tags)
    evidence = collect_evidence(attempt.workspace, None)
    attempt.store.runs.record_verdict(attempt.run.run_id, evidence, page)
    return outcome


def _check_verdict(attempt: Attempt, finalist: Finalist, scorecard: Scorecard) -> None:
    """Compute the verdict again and hash the adapter, since others can write to the cache.

    `DamagedFile` or `UnsafeAdapter` where either is not what it should be.
    """
    evidence = collect_evidence(attempt.workspace, finalist)
    differences = list(recompute(evidence, project=attempt.root).differences)
    is_about_scorecard = finalist.scorecard_digest == scorecard.content_sha256()
    is_about_adapter = finalist.adapter == scorecard.adapter
    if not (is_about_scorecard and is_about_adapter):
        differences.append("the verdict names another scorecard or adapter")
    if differences:
        raise DamagedFile(
            f"The verdict does not follow from its evidence ({differences[0]}). "
            "Remove .assay/cache and run again; nothing was registered."
        )
    manifest = BaseModelManifest.read(evidence / "base_model.json")
    check_adapter(attempt.root / scorecard.adapter.folder, scorecard.adapter, manifest)
