"""What an attempt leaves in MLflow: the folder of evidence, and the package of a finalist.

workspace ─► evidence folder (also of a run that was rejected)
                  └─► package = evidence + adapter + tokenizer + known answers + card
"""

import json
import shutil
from pathlib import Path

from core.files import digest_of_json, folder_digests, write_text
from core.value import FileDigest
from flows.run.workspace import Workspace
from pipelines import layout
from pipelines.code_tasks.scored import FILE as HUMANEVAL_FILE
from pipelines.gates.policy import load_policy
from pipelines.models.base_store import locate_base_model
from pipelines.safety.scored import FILE as SAFETY_FILE
from pipelines.scoring.evidence_file import read_evidence
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.dataset import DatasetVersion, group_prompts, read_rows
from pipelines.values.elsewhere import FILE as MEMBERSHIP_FILE
from pipelines.values.elsewhere import UNCLAIMED, MembershipProbe
from pipelines.values.evidence import Adapter, Scorecard
from pipelines.values.own_metric import own_metric_files
from pipelines.values.verdict import Finalist, Rejection, Undecided
from registry.mlflow.card import Lineage, model_card
from registry.release.confirmed import FILES as CONFIRMATION_FILES
from registry.release.confirmed import FOLDER as CONFIRMATION
from registry.release.known_answers import FILE as KNOWN_ANSWERS
from registry.release.known_answers import (
    KnownAnswer,
    choose_known_answers,
    write_known_answers,
)
from registry.release.own_metrics import copy_name
from registry.release.prompted import FEW_SHOT as FEW_SHOT_FILE
from registry.release.prompted import RETRIEVED as RETRIEVED_FILE
from registry.report.scorecard import PAGE

Verdict = Finalist | Rejection | Undecided
_EVIDENCE = {
    layout.DATASET: "dataset.json",
    layout.VALIDATION_REPORT: "validation_report.json",
    layout.HELD_OUT: "held_out.jsonl",
    layout.BIAS_REPORT: "bias_report.json",
    layout.BASE_MODEL_MANIFEST: "base_model.json",
    layout.CHAMPION_INPUT: "champion.json",
    layout.ADAPTER: "adapter.json",
    layout.PROGRESS: "progress.jsonl",
    layout.FEW_SHOT_EXAMPLES: FEW_SHOT_FILE,
    layout.RETRIEVED: RETRIEVED_FILE,
    layout.SCORECARD: "scorecard.json",
    layout.EVIDENCE: "evidence.parquet",
    layout.NAMED_ANSWERS: "named_answers.jsonl",
    layout.SAFETY_ANSWERS: SAFETY_FILE,
    layout.HUMANEVAL_ANSWERS: HUMANEVAL_FILE,
    layout.POLICY: "policy.yaml",
    layout.PARAMS: "params.yaml",
    layout.DVC_LOCK: "dvc.lock",
}
"""Each file of a workspace that a verdict follows from, and its name among the evidence."""
_BESIDE = {layout.CONFORMANCE: "base_check.json", layout.MEMBERSHIP: MEMBERSHIP_FILE}
"""What no verdict follows from: how the base was asked, and whether held-out rows seem known."""
_TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
)


def collect_evidence(workspace: Workspace, verdict: Verdict | None) -> Path:
    """Copy the files that a verdict can be recomputed from into one folder, and give it.

    Beside them is what was seen of the base model. A run that ended early has only some of them.
    `verdict` is None where no gate was reached.
    """
    folder = workspace.root / layout.DATA / ".evidence"
    folder.mkdir(parents=True, exist_ok=True)
    kept = {**_EVIDENCE, **_BESIDE}
    for source, name in kept.items():
        path = workspace.root / source
        if path.is_file():
            shutil.copyfile(path, folder / name)
    _copy_own_metrics(workspace, folder)
    _copy_confirmation(workspace, folder)
    if verdict is not None:
        verdict.write(folder / "verdict.json")
    return folder


def _copy_confirmation(workspace: Workspace, folder: Path) -> None:
    """Keep the block that was opened, its rows and its evidence; where none was, why."""
    confirmed = workspace.root / layout.CONFIRM
    for name in CONFIRMATION_FILES:
        source = confirmed / name
        if source.is_file():
            copy = folder / CONFIRMATION / name
            copy.parent.mkdir(exist_ok=True)
            shutil.copyfile(source, copy)


def _copy_own_metrics(workspace: Workspace, folder: Path) -> None:
    """Keep the texts of the metrics that counted, for a person who reads the evidence."""
    for path in own_metric_files(workspace.params):
        source = workspace.root / path
        if source.is_file():
            copy = folder / copy_name(path.stem)
            copy.parent.mkdir(exist_ok=True)
            shutil.copyfile(source, copy)


def lineage_of(workspace: Workspace, policy_sha256: str, logical_run: str) -> Lineage:
    """Where a version came from: data, base, commit, parameters and policy."""
    root = workspace.root
    dataset = DatasetVersion.read(root / layout.DATASET)
    manifest = root / layout.BASE_MODEL_MANIFEST
    params = workspace.params.model_dump(mode="json")
    return Lineage(
        dataset=dataset.model_copy(update={"git_revision": workspace.commit}),
        base=BaseModelManifest.read(manifest) if manifest.is_file() else None,
        git_commit=workspace.commit,
        run_id=workspace.run_id,
        logical_run=logical_run,
        params_sha256=digest_of_json(params),
        policy_sha256=policy_sha256,
        policy_name=load_policy(root / layout.POLICY).gates.name,
        elsewhere=_said_of_training(root),
        prompt=_said_of_prompt(root),
    )


def _said_of_prompt(root: Path) -> str | None:
    """What a page says of a prompt that was judged; None of an adapter."""
    path = root / layout.ADAPTER
    prompt = Adapter.read(path).prompt if path.is_file() else None
    return None if prompt is None else f"{prompt.text}."


def _said_of_training(root: Path) -> str | None:
    """What a page says of an adapter that was trained elsewhere; None of any other."""
    path = root / layout.ADAPTER
    # A run that a gate ended before has no adapter.
    adapter = Adapter.read(path) if path.is_file() else None
    if adapter is None or adapter.elsewhere is None:
        return None
    brought = adapter.elsewhere
    sentences = [UNCLAIMED, *brought.notes]
    if brought.stated_base is not None:
        sentences.append(f"Its configuration calls the base {brought.stated_base}")
    if (root / layout.MEMBERSHIP).is_file():
        sentences.append(MembershipProbe.read(root / layout.MEMBERSHIP).text)
    return ". ".join(sentences) + "."


def build_package(
    workspace: Workspace, finalist: Finalist, scorecard: Scorecard, lineage: Lineage
) -> Path:
    """Build what is registered, and give its folder; `package.json` holds each file's digest."""
    package = workspace.root / layout.DATA / ".package"
    # An earlier attempt in this worktree may have left one.
    shutil.rmtree(package, ignore_errors=True)
    shutil.copytree(workspace.root / scorecard.adapter.folder, package / "adapter")
    evidence = collect_evidence(workspace, finalist)
    # An attempt that was killed may have left the page, which is for people and not judged.
    without_page = shutil.ignore_patterns(PAGE)
    shutil.copytree(evidence, package, dirs_exist_ok=True, ignore=without_page)
    # The endpoint serves with the tokenizer that was scored, whatever the base's folder has later.
    if lineage.base is not None:
        base_folder = locate_base_model(lineage.base, workspace.home)
        _copy_tokenizer(base_folder, package / "tokenizer")
    template = workspace.root / layout.CHAT_TEMPLATE
    if template.is_file():
        shutil.copyfile(template, package / "chat_template.jinja")
    answers = _known_answers(workspace, scorecard)
    write_known_answers(package / KNOWN_ANSWERS, answers)
    card = model_card(finalist, scorecard, lineage)
    write_text(package / "MODEL_CARD.md", card)
    lineage_json = lineage.model_dump_json(indent=1)
    write_text(package / "lineage.json", lineage_json + "\n")
    # Written last, since it lists every other file.
    digests = json.dumps(folder_digests(package), indent=1, sort_keys=True)
    write_text(package / "package.json", digests + "\n")
    return package


def _copy_tokenizer(base: Path, folder: Path) -> None:
    folder.mkdir()
    for name in _TOKENIZER:
        if (base / name).is_file():
            shutil.copyfile(base / name, folder / name)


def _known_answers(
    workspace: Workspace, scorecard: Scorecard
) -> tuple[KnownAnswer, ...]:
    """A few held-out prompts with what the adapter answered when it was scored."""
    path = layout.HELD_OUT.as_posix()
    # The digest of the scorecard: these are the rows that were scored.
    held_out = FileDigest(path=path, sha256=scorecard.held_out_sha256)
    prompts = group_prompts(read_rows(held_out.checked(workspace.root)))
    evidence = read_evidence(scorecard.evidence.checked(workspace.root))
    answers = {}
    for scored in evidence.rows["adapter"]:
        answers[scored.row.prompt_id] = scored.row.prediction
    return choose_known_answers(prompts, answers, scorecard.spec.default_max_tokens)
