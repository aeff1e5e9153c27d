"""From a workspace to MLflow: the run, its curves, its evidence, and the version of a finalist."""

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import yaml

from core.errors import DamagedFile, RegistryError, RunStopped
from core.files import digest_of_json, folder_digests, write_text
from core.value import FileDigest
from flows.run.challenger import settle, succession
from flows.run.outcome import Outcome
from flows.run.previous import champions_outcome
from flows.run.registration import enter_version
from flows.run.workspace import Workspace
from pipelines import layout
from pipelines.gates.policy import load_policy
from pipelines.models.adapter_files import check_adapter
from pipelines.scoring.evidence_file import read_evidence
from pipelines.stages.base_model import locate, read_base_model
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.champion import Champion, ChampionInput, read_comparators
from pipelines.values.dataset import DatasetVersion, prompts_of, read_rows
from pipelines.values.evidence import Adapter, Scorecard
from pipelines.values.verdict import Finalist, Rejection, Undecided
from registry.ledger.ledger import ever_was, open_ledger, read_ledger
from registry.mlflow.card import Lineage, describe, model_card
from registry.mlflow.recorded import (
    ANCHOR,
    CHAMPION,
    MADE_AGAIN,
    VERDICT,
    VERSION,
    ModelVersion,
    Page,
    RecordedRun,
    Submission,
)
from registry.mlflow.store import Store
from registry.release.known_answers import FILE as KNOWN_ANSWERS
from registry.release.known_answers import (
    KnownAnswer,
    choose_known_answers,
    write_known_answers,
)
from registry.release.recompute import recompute

Verdict = Finalist | Rejection | Undecided
_EVIDENCE = (
    "data/split/dataset.json",
    "data/validate/report.json",
    "data/validate/held_out.jsonl",
    "data/bias/report.json",
    "data/base_model/manifest.json",
    "data/champion/champion.json",
    "data/fine_tune/adapter.json",
    "data/fine_tune/progress.jsonl",
    "data/prompt_baselines/few_shot_examples.json",
    "data/score/scorecard.json",
    "data/score/evidence.parquet",
    "data/score/named_answers.jsonl",
    "registry/policies/default.yaml",
    "params.yaml",
    "dvc.lock",
)
_TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
)
SECONDS_BETWEEN_POINTS = 5.0


def place_champion(store: Store, model: str, workspace: Workspace) -> None:
    """Write what is served now, and the fixed anchor, into the workspace: the screen compares with them, and DVC sees them as inputs."""
    comparators = {
        alias: _comparator(store, model, alias, workspace)
        for alias in (CHAMPION, ANCHOR)
    }
    if any(comparators.values()):
        found = ChampionInput(
            champion=comparators[CHAMPION], anchor=comparators[ANCHOR]
        )
        found.write(workspace.root / layout.CHAMPION_INPUT)


def check_comparators(workspace: Workspace) -> None:
    """Champion and anchor can be compared with: said before anything is trained."""
    manifest, _ = read_base_model(workspace.root / layout.BASE_MODEL)
    read_comparators(manifest, workspace.root / layout.CHAMPION)


def _comparator(
    store: Store, model: str, alias: str, workspace: Workspace
) -> Champion | None:
    version = (
        _last_served(store, model, workspace.project.home)
        if alias == CHAMPION
        else None
    )
    version = version or store.holder(model, alias)
    if version is None:
        return None
    package = store.fetch(
        version, workspace.project.home / "packages" / version.package_sha256
    )
    shutil.copytree(package / "adapter", workspace.root / layout.CHAMPION / alias)
    return Champion(
        version=version.version, adapter=Adapter.read(package / "adapter.json")
    )


def _last_served(store: Store, model: str, home: Path) -> ModelVersion | None:
    """What a release is held against: the last version with full traffic, also while its base answers; None before any."""
    if not ever_was(home):
        return None
    last = read_ledger(home).state().model(model).comparator
    if last is None:
        return None
    found = store.known(model, last.release.version)
    if found is None or found.package_sha256 != last.release.package_sha256:
        raise RegistryError(
            f"Version {last.release.version} of {model} served last, and MLflow does not hold it as it was released. "
            "Restore MLflow from a backup, or train under another name with --model."
        )
    return found


@contextmanager
def ended_on_error(store: Store, run: RecordedRun) -> Iterator[None]:
    """A run that was ended says so in MLflow: `KILLED` where it was told to, else `FAILED`. The same command takes it up again.

    Whatever ended it: Prefect ends a flow that is told to stop by an exception of its own.
    """
    try:
        yield
    except BaseException as error:
        was_told = isinstance(error, RunStopped) or not isinstance(error, Exception)
        with suppress(
            RegistryError
        ):  # the error that ended the run is the one to be told
            store.runs.end(run.run_id, "KILLED" if was_told else "FAILED")
        raise


@contextmanager
def forwarded_progress(
    workspace: Workspace, store: Store, run: RecordedRun
) -> Iterator[None]:
    """Copy what training appends to `progress.jsonl` to the MLflow run's curves while it goes on."""
    done = threading.Event()
    thread = threading.Thread(
        target=_forward, args=(workspace.root / layout.PROGRESS, store, run, done)
    )
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def record(
    workspace: Workspace,
    store: Store,
    run: RecordedRun,
    verdict: Verdict | Champion,
    logical_run: str,
    model: str,
    *,
    registers: bool = True,
) -> Outcome:
    """Put verdict and evidence on the MLflow run and, for a finalist that is no re-scored champion, register its version."""
    if isinstance(verdict, Champion):
        return _record_made_again(
            workspace,
            store,
            run,
            store.get_version(model, verdict.version),
            logical_run,
        )
    root = workspace.root
    scorecard = (
        Scorecard.read(root / layout.SCORECARD) if verdict.gate == "screen" else None
    )
    lineage = _lineage(workspace, verdict.policy_sha256, logical_run)
    page = Page(
        description=describe(verdict, scorecard, lineage),
        tags={VERDICT: verdict.verdict, **lineage.tags()},
    )
    version, note = None, ""
    if isinstance(verdict, Finalist) and scorecard is not None and registers:
        _judge_again(workspace, verdict, scorecard)
        package = _package(workspace, verdict, scorecard, lineage)
        place = succession(store, workspace, model, logical_run, scorecard)
        submission = Submission(
            run=run,
            package=package,
            model=model,
            logical_run=logical_run,
            page=page,
            takes_challenger=place.takes,
        )
        registered = store.register(verdict, submission)
        enter_version(
            open_ledger(workspace.project.home),
            store,
            workspace.project.home / "packages",
            registered,
            package,
        )
        version = registered.version
        note = settle(store, place, version)
    store.runs.record_verdict(run.run_id, _evidence(workspace, verdict), page)
    return Outcome(
        verdict=verdict.verdict,
        gate=verdict.gate,
        findings=verdict.findings,
        scorecard=scorecard,
        model=model,
        version=version,
        run_id=run.run_id,
        note=note,
    )


def flat_params(workspace: Workspace) -> dict[str, str]:
    """The parameters by dotted name, as MLflow compares runs; one that holds names of its own, as people write them, stays whole."""
    document = yaml.safe_load(
        (workspace.root / layout.PARAMS).read_text(encoding="utf-8")
    )
    flat = {
        f"{section}.{name}": entry
        for section, entries in document.items()
        for name, entry in entries.items()
    }
    del flat[
        "base_model.path"
    ]  # where the files lie is no parameter: the digest beside it is
    return {
        name: entry if isinstance(entry, str) else json.dumps(entry, ensure_ascii=False)
        for name, entry in flat.items()
    }


def _record_made_again(
    workspace: Workspace,
    store: Store,
    run: RecordedRun,
    champion: ModelVersion,
    logical_run: str,
) -> Outcome:
    """End a run whose training came to the champion: there is no candidate, and its page says which version it is."""
    outcome = champions_outcome(store, champion, workspace.project.home).model_copy(
        update={"run_id": run.run_id}
    )
    lineage = _lineage(
        workspace, load_policy(workspace.root / layout.POLICY).sha256, logical_run
    )
    tags = {VERDICT: MADE_AGAIN, VERSION: champion.version, **lineage.tags()}
    store.runs.record_verdict(
        run.run_id,
        _evidence(workspace, None),
        Page(description=f"{outcome.result}.", tags=tags),
    )
    return outcome


def _forward(path: Path, store: Store, run: RecordedRun, done: threading.Event) -> None:
    sent = 0
    while True:
        last = done.wait(SECONDS_BETWEEN_POINTS)
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        for line in lines[sent:]:
            try:
                point = json.loads(line)
            except json.JSONDecodeError:
                break  # half written; it is whole at the next look
            step = point.pop("step")
            try:
                store.runs.log_metrics(run.run_id, step, _curves(point))
            except RegistryError:
                return  # curves are a convenience: the whole file is among the evidence
            sent += 1
        if last:
            return


def _curves(point: dict[str, object]) -> dict[str, float]:
    """The figures of a line of `progress.jsonl`; one about checkpoints has texts as well."""
    return {
        f"train.{name}": value
        for name, value in point.items()
        if name != "of" and isinstance(value, int | float)
    }


def _judge_again(
    workspace: Workspace, finalist: Finalist, scorecard: Scorecard
) -> None:
    """Files came from a cache that others can write: the verdict is computed once more, and the adapter hashed, before it counts."""
    evidence = _evidence(workspace, finalist)
    different = recompute(evidence).differences
    if (
        different
        or finalist.scorecard_digest != scorecard.content_sha256()
        or finalist.adapter != scorecard.adapter
    ):
        what = (
            different[0]
            if different
            else "the verdict names another scorecard or adapter"
        )
        raise DamagedFile(
            f"The verdict does not follow from its evidence ({what}). Remove .assay/cache and run again; nothing was registered."
        )
    manifest = BaseModelManifest.read(evidence / "base_model.json")
    check_adapter(
        workspace.root / scorecard.adapter.folder, scorecard.adapter, manifest
    )


def _lineage(workspace: Workspace, policy_sha256: str, logical_run: str) -> Lineage:
    root = workspace.root
    manifest = root / layout.BASE_MODEL_MANIFEST
    return Lineage(
        dataset=DatasetVersion.read(root / layout.DATASET).model_copy(
            update={"git_revision": workspace.commit}
        ),
        base=BaseModelManifest.read(manifest) if manifest.is_file() else None,
        git_commit=workspace.commit,
        run_id=workspace.run_id,
        logical_run=logical_run,
        params_sha256=digest_of_json(workspace.params.model_dump(mode="json")),
        policy_sha256=policy_sha256,
        policy_name=load_policy(root / layout.POLICY).gates.name,
    )


def _evidence(workspace: Workspace, verdict: Verdict | None) -> Path:
    """The files that a verdict can be recomputed from, in one folder; without one, what was made until then."""
    folder = workspace.root / "data" / ".evidence"
    folder.mkdir(parents=True, exist_ok=True)
    for name in _EVIDENCE:
        source = workspace.root / name
        if source.is_file():
            shutil.copyfile(source, folder / _artifact_name(name))
    if verdict is not None:
        verdict.write(folder / "verdict.json")
    return folder


def _artifact_name(name: str) -> str:
    renamed = {
        "data/validate/report.json": "validation_report.json",
        "data/bias/report.json": "bias_report.json",
        "data/base_model/manifest.json": "base_model.json",
        "registry/policies/default.yaml": "policy.yaml",
    }
    return renamed.get(name, Path(name).name)


def _known_answers(
    workspace: Workspace, scorecard: Scorecard
) -> tuple[KnownAnswer, ...]:
    """A few held-out prompts with what the adapter answered when it was scored, out of the evidence itself."""
    held_out = FileDigest(
        path="data/validate/held_out.jsonl", sha256=scorecard.held_out_sha256
    )
    prompts = prompts_of(read_rows(held_out.checked(workspace.root)))
    evidence = read_evidence(scorecard.evidence.checked(workspace.root))
    texts = {
        scored.row.prompt_id: scored.row.prediction
        for scored in evidence.rows["adapter"]
    }
    return choose_known_answers(prompts, texts, scorecard.spec.default_max_tokens)


def _package(
    workspace: Workspace, finalist: Finalist, scorecard: Scorecard, lineage: Lineage
) -> Path:
    """What is registered: adapter, tokenizer, template, evidence, verdict and card, with the digest of each."""
    package = workspace.root / "data" / ".package"
    shutil.rmtree(package, ignore_errors=True)
    shutil.copytree(workspace.root / scorecard.adapter.folder, package / "adapter")
    shutil.copytree(_evidence(workspace, finalist), package, dirs_exist_ok=True)
    if lineage.base is not None:
        base_folder = locate(lineage.base, workspace.project.home)
        (package / "tokenizer").mkdir()
        for name in _TOKENIZER:
            if (base_folder / name).is_file():
                shutil.copyfile(base_folder / name, package / "tokenizer" / name)
    template = workspace.root / layout.CHAT_TEMPLATE
    if template.is_file():
        shutil.copyfile(template, package / "chat_template.jinja")
    write_known_answers(package / KNOWN_ANSWERS, _known_answers(workspace, scorecard))
    write_text(package / "MODEL_CARD.md", model_card(finalist, scorecard, lineage))
    write_text(package / "lineage.json", lineage.model_dump_json(indent=1) + "\n")
    write_text(
        package / "package.json",
        json.dumps(folder_digests(package), indent=1, sort_keys=True) + "\n",
    )
    return package
