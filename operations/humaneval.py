"""`assay humaneval`: a base model, and an adapter on it, on the tasks of HumanEval."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from core.download import fetch
from core.environment import set_library_environment
from core.errors import ParameterError, UnsafeAdapter, first_line
from core.files import digest_of_files, folder_digests, write_jsonl
from core.project import find_project
from core.settings import Settings
from core.value import Value
from flows.run.request import read_template_file
from pipelines.code_tasks.ask import CodeAnswer, CodeSettings, ask_tasks
from pipelines.code_tasks.controls import check_controls
from pipelines.code_tasks.humaneval import HUMANEVAL, CodeTask, read_humaneval
from pipelines.code_tasks.score import (
    CodeDifference,
    CodeScore,
    compare_answers,
    score_answers,
)
from pipelines.code_tasks.verdict import decide
from pipelines.models.adapter_files import CONFIG, check_kinds, check_plain_lora
from pipelines.models.base_store import locate_base_model
from pipelines.models.language_model import load_language_model
from pipelines.models.resumed import Resumed
from pipelines.stages.base_model import base_model
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.dataset import Interval
from pipelines.values.params import BaseModelParams, LoraParams
from pipelines.values.verdict import Outcome


class HumanEvalRequest(Value):
    """What to score, and how."""

    base: Path
    adapter: Path | None = None
    chat_template: Path | None = None
    completion_mode: bool = False
    limit: int | None = Field(default=None, description="So many tasks, for a try.")
    margin: float | None = Field(
        default=None, description="How much worse than the base the adapter may be."
    )
    out: Path | None = None
    settings: CodeSettings = CodeSettings()


class HumanEvalReport(Value):
    """Scores of base and adapter, and how they compare."""

    base_digest: str
    controls: str
    is_complete: bool = Field(description="All tasks; a part of them is no HumanEval.")
    scores: tuple[CodeScore, ...]
    differences: tuple[CodeDifference, ...]
    verdict: Outcome = "passed"
    reason: str | None = Field(default=None, description="None: no margin was given.")

    @property
    def lines(self) -> tuple[str, ...]:
        """The report for people, a sentence a line."""
        lines = [f"boxes: {self.controls}"]
        for score in self.scores:
            for pass_at in score.pass_at:
                found = _show(pass_at.interval)
                lines.append(
                    f"{score.system}: pass@{pass_at.k} {found} on {score.tasks} tasks"
                )
        lines += [_describe(each) for each in self.differences]
        if self.reason is not None:
            lines.append(f"{self.verdict}: {self.reason}")
        if not self.is_complete:
            lines.append("This is a part of the tasks, and not the score of HumanEval.")
        return tuple(lines)


def request_from_options(options: Mapping[str, Any]) -> HumanEvalRequest:
    """The request that command-line options amount to; `ParameterError` where they do not fit."""
    given: dict[str, Any] = {}
    own: dict[str, Any] = {}
    for name, option in options.items():
        # What nobody gave has its default in the values, and not twice.
        if option is None:
            continue
        is_own = name in CodeSettings.model_fields
        into = own if is_own else given
        into[name] = option
    if not own.get("k"):
        own["k"] = (1,)
    settings = CodeSettings(**own)
    request = HumanEvalRequest(**given, settings=settings)
    _check_request(request)
    return request


def run_humaneval(request: HumanEvalRequest) -> HumanEvalReport:
    """Score the request's base model, and its adapter where it names one.

    `SandboxUnavailable` before anything is loaded where boxes do not hold here. `DownloadFailed`
    where the tasks cannot be fetched. `AssayError` of another kind where a model cannot be used.
    """
    set_library_environment()
    project = find_project(Settings().home)
    path = fetch(HUMANEVAL, project.home)
    every_task = read_humaneval(path)
    tasks = every_task[: request.limit]
    # Before minutes of answers that could not be run.
    controls = check_controls(tasks)
    with tempfile.TemporaryDirectory() as scratch:
        manifest, scores, answers = _ask(request, tasks, Path(scratch))
    differences: tuple[CodeDifference, ...] = ()
    if len(answers) == 2:
        base, adapter = answers
        differences = compare_answers(adapter, base, request.settings)
    verdict: Outcome = "passed"
    reason = None
    if request.margin is not None:
        verdict, reason = decide(scores, differences, request.margin)
    report = HumanEvalReport(
        base_digest=manifest.digest,
        controls=controls,
        is_complete=len(tasks) == len(every_task),
        scores=tuple(scores),
        differences=differences,
        verdict=verdict,
        reason=reason,
    )
    if request.out is not None:
        _write(request.out, report, answers)
    return report


def _check_request(request: HumanEvalRequest) -> None:
    settings = request.settings
    if max(settings.k) > settings.samples:
        raise ParameterError(
            f"pass@{max(settings.k)} needs as many samples a task, and --samples is "
            f"{settings.samples}. Raise it."
        )
    # The same answer again tells nothing.
    if settings.samples > 1 and settings.temperature == 0:
        raise ParameterError(
            f"{settings.samples} greedy answers to a task are one answer. "
            "Give --temperature, such as 0.8, or one sample."
        )
    if request.margin is not None and request.adapter is None:
        raise ParameterError(
            "--margin compares an adapter with its base. Give --adapter as well."
        )


def _ask(
    request: HumanEvalRequest, tasks: Sequence[CodeTask], scratch: Path
) -> tuple[BaseModelManifest, list[CodeScore], list[tuple[CodeAnswer, ...]]]:
    manifest, template = base_model(_base_params(request), scratch)
    folder = locate_base_model(manifest, scratch)
    systems: list[tuple[str, Path | None]] = [("base", None)]
    if request.adapter is not None:
        # Before the base is asked, which takes minutes.
        _check_adapter(request.adapter)
        systems.append(("adapter", request.adapter))
    scores = []
    answers = []
    for system, adapter in systems:
        language = load_language_model(
            manifest, folder, template, request.settings.precision, adapter
        )
        # The base is known by its manifest.
        digest = None
        if adapter is not None:
            digest = digest_of_files(folder_digests(adapter))
        asked = Resumed(language, system, digest or manifest.digest)
        own = ask_tasks(asked, tasks, request.settings)
        score = score_answers(
            own,
            request.settings,
            is_chat=template is not None,
            adapter_sha256=digest,
        )
        answers.append(own)
        scores.append(score)
    return manifest, scores, answers


def _base_params(request: HumanEvalRequest) -> BaseModelParams:
    template = None
    if request.chat_template is not None:
        template = read_template_file(request.chat_template)
    return BaseModelParams(
        source="folder",
        id=request.base.resolve().name,
        path=str(request.base),
        digest=None,
        chat_template=template,
        completion_mode=request.completion_mode,
    )


def _check_adapter(folder: Path) -> None:
    """Plain LoRA weights and nothing that can run; `UnsafeAdapter` for anything else."""
    check_kinds(folder, recorded=None)
    try:
        config = json.loads((folder / CONFIG).read_bytes())
        lora = LoraParams(
            r=config["r"],
            alpha=config["lora_alpha"],
            dropout=0.0,
            # A text of the configuration's own would be run as a regular expression.
            target_modules="all-linear",
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnsafeAdapter(
            f"{folder / CONFIG} is no LoRA configuration ({first_line(error)}). "
            "Give the folder that peft saved."
        ) from error
    check_plain_lora(folder, lora)


def _write(
    folder: Path, report: HumanEvalReport, answers: Sequence[Sequence[CodeAnswer]]
) -> None:
    rows = []
    for own in answers:
        for row in own:
            record = row.model_dump(mode="json")
            rows.append(record)
    # The report last: it stands beside the answers that it was computed from.
    path = folder / "humaneval_answers.jsonl"
    write_jsonl(path, rows)
    report.write(folder / "humaneval.json")


def _describe(each: CodeDifference) -> str:
    bounds = f"{each.low:.3f} and {each.high:.3f}"
    return (
        f"{each.system} against {each.other}, pass@{each.k}: "
        f"better by {each.difference:.3f}, bounds {bounds}"
    )


def _show(interval: Interval) -> str:
    low = f"{interval.low:.3f}"
    high = f"{interval.high:.3f}"
    return f"{interval.estimate:.3f} [{low}, {high}]"
