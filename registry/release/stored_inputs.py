"""Whether stored evidence is about the data beside it.

Compared are the held-out prompts, the reports that `admit` judged, and the bias of outputs.
"""

from collections.abc import Iterator
from pathlib import Path

from pydantic_core import to_jsonable_python

from core.errors import DamagedFile
from core.files import read_jsonl, sha256_of
from pipelines.gates.bias_check import find_contradictions
from pipelines.gates.comparisons import list_differences
from pipelines.rows.contents import digest_contents
from pipelines.scoring.controls import control_prompts
from pipelines.scoring.evidence_file import Evidence
from pipelines.scoring.observations import NAMED_ANSWERS, output_bias_of
from pipelines.scoring.wording import wording_of
from pipelines.values.dataset import (
    SPLITS,
    BiasReport,
    DatasetVersion,
    Prompt,
    Row,
    ValidationReport,
    group_prompts,
    read_rows,
)
from pipelines.values.evidence import NamedAnswer, Scorecard
from pipelines.values.params import load_params
from pipelines.values.sampling import SampledAs
from registry.release.known_answers import HELD_OUT
from registry.release.stored_probes import probe_differences

Texts = tuple[str, ...]
Question = tuple[str, str, str | None, str | None, Texts, Texts]
"""Prompt id, group, sensitive feature, content, references, tests."""


def input_differences(
    folder: Path, scorecard: Scorecard, evidence: Evidence
) -> tuple[str, ...]:
    """A sentence for each contradiction between the evidence and the data files beside it.

    A missing file is a difference, since nothing can be compared. `DamagedFile` where a file
    cannot be read.
    """
    settings = (
        *_settings_differences(folder, evidence),
        *_sampling_differences(folder, scorecard, evidence),
    )
    rows = _read_held_out(folder, scorecard)
    # Without the rows the bias of outputs is all that can still be compared.
    if isinstance(rows, str):
        bias = _output_bias_differences(folder, scorecard, evidence)
        probes = probe_differences(folder, scorecard, evidence)
        return (rows, *settings, *bias, *probes)
    return (
        *settings,
        *prompt_differences(rows, evidence),
        *_data_differences(folder, scorecard, rows),
        *_output_bias_differences(folder, scorecard, evidence),
        *probe_differences(folder, scorecard, evidence),
    )


def _settings_differences(folder: Path, evidence: Evidence) -> Iterator[str]:
    """Whether the evidence was counted under the settings of `params.yaml`.

    Only evidence from before there were such settings may name none.
    """
    score = load_params(folder / "params.yaml").score
    is_from_before = evidence.settings is None and "bleu" not in score.model_fields_set
    if evidence.settings != score.settings and not is_from_before:
        stored = "no settings"
        if evidence.settings is not None:
            stored = evidence.settings.model_dump_json()
        yield (
            f"settings: the evidence was counted under {stored}, "
            f"params.yaml has {score.settings.model_dump_json()}"
        )


def _sampling_differences(
    folder: Path, scorecard: Scorecard, evidence: Evidence
) -> Iterator[str]:
    """Whether answers were drawn as `params.yaml` asks, and the scorecard says."""
    asked = load_params(folder / "params.yaml").generation.sampled_as
    if evidence.sampled_as != asked:
        yield (
            f"samples: the evidence has {_describe_drawn(evidence.sampled_as)}, "
            f"params.yaml asks for {_describe_drawn(asked)}"
        )
    if scorecard.sampled_as != evidence.sampled_as:
        yield (
            f"samples: the scorecard says {_describe_drawn(scorecard.sampled_as)}, "
            f"the evidence has {_describe_drawn(evidence.sampled_as)}"
        )


def _describe_drawn(drawn: SampledAs | None) -> str:
    if drawn is None:
        return "greedy answers"
    seeds = ", ".join(str(seed) for seed in drawn.seeds)
    return f"{drawn.samples} answers a prompt at {drawn.temperature:g}, seeds {seeds}"


def _read_held_out(folder: Path, scorecard: Scorecard) -> tuple[Row, ...] | str:
    """The rows of the held-out split that the scorecard names, or why they cannot be compared."""
    # A sentence and no error: without the rows other files can still be compared.
    path = folder / HELD_OUT
    if not path.is_file():
        return (
            f"held_out: cannot be recomputed, since {HELD_OUT} is not in the folder. "
            "Score this adapter again"
        )
    if sha256_of(path) != scorecard.held_out_sha256:
        return f"held_out: {HELD_OUT} is another split than the one that the scorecard names"
    try:
        rows = read_rows(path)
        for row in rows:
            # Half of a surrogate pair is valid JSON and no text: it has no bytes and no digest.
            row.model_dump_json().encode()
    except ValueError as error:
        raise DamagedFile(
            f"{path} holds a line that is no row. Bring back the file that was stored there."
        ) from error
    return rows


def prompt_differences(rows: tuple[Row, ...], evidence: Evidence) -> Iterator[str]:
    """Whether each system was asked every held-out prompt, in order, with the right controls."""
    prompts = group_prompts(rows)
    expected = _questions(prompts)
    for system, system_rows in evidence.rows.items():
        scored: list[Question] = [
            (
                row.row.prompt_id,
                row.group,
                row.feature,
                row.content,
                row.row.references,
                row.row.tests,
            )
            for row in system_rows
        ]
        # Of lists of two lengths every later prompt would differ: the counts say it once.
        if len(scored) != len(expected):
            yield (
                f"evidence.{system}: {len(scored)} prompts are in the evidence, "
                f"{len(expected)} in the held-out split"
            )
        else:
            yield from list_differences(f"evidence.{system}.prompts", scored, expected)
    yield from _control_differences(prompts, evidence)


def _questions(prompts: tuple[Prompt, ...]) -> list[Question]:
    pairs = zip(prompts, digest_contents(prompts), strict=True)
    return [
        (
            prompt.id,
            prompt.group,
            prompt.feature,
            content,
            prompt.references,
            prompt.tests,
        )
        for prompt, content in pairs
    ]


def _control_differences(
    prompts: tuple[Prompt, ...], evidence: Evidence
) -> Iterator[str]:
    """Whether each control is the prompt that scoring chooses; only the adapter has controls."""
    controls = {
        prompt_id: control.id for prompt_id, control in control_prompts(prompts).items()
    }
    without_controls = dict.fromkeys(controls)
    for system, system_rows in evidence.rows.items():
        stored = {row.row.prompt_id: row.control_prompt_id for row in system_rows}
        # Only the adapter is compared with other prompts' references.
        expected = controls if system == "adapter" else without_controls
        yield from list_differences(f"evidence.{system}.controls", stored, expected)


def _data_differences(
    folder: Path, scorecard: Scorecard, rows: tuple[Row, ...]
) -> Iterator[str]:
    """Whether the dataset and the reports that `admit` judged are those of the held-out rows."""
    # The commit is lineage: the scorecard's digest of the dataset leaves it out.
    dataset = DatasetVersion.read(folder / "dataset.json").model_copy(
        update={"git_revision": None}
    )
    validation = ValidationReport.read(folder / "validation_report.json")
    if dataset.content_sha256() != scorecard.dataset_digest:
        yield "dataset: dataset.json is another dataset than the one that the scorecard names"
    split = validation.splits.get("held_out")
    if split is None or split.sha256 != scorecard.held_out_sha256:
        yield (
            "validation: its report is about another held-out split "
            "than the one that the scorecard names"
        )
    yield from _held_out_count_differences(validation, rows)
    for name in SPLITS:
        yield from _split_differences(name, dataset, validation)
    yield from _data_bias_differences(folder, validation, rows)


def _held_out_count_differences(
    validation: ValidationReport, rows: tuple[Row, ...]
) -> Iterator[str]:
    groups = {row.group for row in rows}
    contents = set(digest_contents(group_prompts(rows)))
    counted = (len(rows), len(groups), len(contents))
    # Reports from before contents were counted differ here, as they should.
    reported_contents = validation.contents or {}
    reported = (
        validation.rows.get("held_out"),
        validation.groups.get("held_out"),
        reported_contents.get("held_out"),
    )
    if counted != reported:
        yield (
            f"validation: held_out has (rows, groups, contents) {reported} in the report, "
            f"{counted} in {HELD_OUT}"
        )


def _split_differences(
    name: str, dataset: DatasetVersion, validation: ValidationReport
) -> Iterator[str]:
    """Whether a split's counts are possible: its other rows are not in the folder to count."""
    # An absent count is -1, which is inside of no limits.
    rows = validation.rows.get(name, -1)
    if not 0 <= rows <= dataset.rows.get(name, -1):
        yield (
            f"validation: {name} has {validation.rows.get(name)} rows in the report, "
            f"{dataset.rows.get(name)} in the dataset"
        )
    # A group or a content has a row at least: there are never more of them than rows.
    kinds = {"groups": validation.groups, "contents": validation.contents or {}}
    for kind, counts in kinds.items():
        if not 0 <= counts.get(name, 0) <= rows:
            yield f"validation: {name} has {counts.get(name)} {kind} in {rows} rows"


def _data_bias_differences(
    folder: Path, validation: ValidationReport, rows: tuple[Row, ...]
) -> Iterator[str]:
    """Whether the bias report agrees with itself, the row counts, and the held-out rows.

    The training rows are not in the folder, so that it cannot be computed again.
    """
    report = BiasReport.read(folder / "bias_report.json")
    for sentence in find_contradictions(report):
        yield f"bias of the data: {sentence}"
    feature = load_params(folder / "params.yaml").data.sensitive_feature
    if report.feature != feature:
        yield f"bias of the data: it is about {report.feature}, params.yaml declares {feature}"
    # Without a declared feature there are no groups to count.
    if report.feature is None:
        return
    sizes = {group.group: group.n for group in report.groups}
    counted = report.without_value + sum(group.n for group in report.groups)
    total = sum(validation.rows.values())
    if counted != total:
        yield f"bias of the data: it counts {counted} rows, {total} are in the splits"
    # A group is in all splits together, so that it is at least as large as in this one.
    features = [row.feature for row in rows if row.feature is not None]
    for name in sorted(set(features)):
        held_out = features.count(name)
        size = sizes.get(name, 0)
        if not size >= held_out:
            yield (
                f"bias of the data: {name} has {size} rows in the report, "
                f"{held_out} in {HELD_OUT} alone"
            )


def _output_bias_differences(
    folder: Path, scorecard: Scorecard, evidence: Evidence
) -> Iterator[str]:
    """Compute the bias report on outputs again, from the answers that it was computed from."""
    path = folder / NAMED_ANSWERS
    if scorecard.named_answers is None or not path.is_file():
        yield (
            f"scorecard.bias: cannot be recomputed, since {NAMED_ANSWERS} is not in the folder. "
            "Score this adapter again"
        )
        return
    # The digest comes first: nothing is computed from other bytes.
    if sha256_of(path) != scorecard.named_answers.sha256:
        yield (
            f"scorecard.bias: {NAMED_ANSWERS} is another file "
            "than the one that the scorecard names"
        )
        return
    named = _read_named_answers(path)
    params = load_params(folder / "params.yaml")
    minimum = scorecard.bias.min_group_size
    recomputed = output_bias_of(evidence, named, params, minimum)
    wording = wording_of(evidence, named, params, minimum)
    # Both None where nobody asked; a report that was taken out is a difference.
    yield from list_differences(
        "scorecard.wording",
        to_jsonable_python(scorecard.wording),
        to_jsonable_python(wording),
    )
    yield from list_differences(
        "scorecard.bias",
        scorecard.bias.model_dump(mode="json"),
        recomputed.model_dump(mode="json"),
    )


def _read_named_answers(path: Path) -> tuple[NamedAnswer, ...]:
    try:
        return tuple(NamedAnswer.model_validate(record) for record in read_jsonl(path))
    except ValueError as error:
        raise DamagedFile(
            f"{path} holds a line that is no answer. Bring back the file that was stored there."
        ) from error
