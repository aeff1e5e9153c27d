"""Whether stored evidence is about the data that lies beside it: the held-out prompts, the reports, the bias of outputs."""

from collections.abc import Iterator
from pathlib import Path

from core.errors import DamagedFile
from core.files import read_jsonl, sha256_of
from pipelines.gates.bias_check import contradictions
from pipelines.gates.comparisons import differing
from pipelines.rows.contents import contents_of
from pipelines.scoring.controls import control_prompts
from pipelines.scoring.evidence_file import Evidence
from pipelines.scoring.observations import NAMED_ANSWERS, output_bias_of
from pipelines.values.dataset import (
    SPLITS,
    BiasReport,
    DatasetVersion,
    Prompt,
    Row,
    ValidationReport,
    prompts_of,
    read_rows,
)
from pipelines.values.evidence import NamedAnswer, Scorecard
from pipelines.values.params import load_params
from registry.release.known_answers import HELD_OUT

Asked = tuple[str, str, str | None, str | None, tuple[str, ...]]


def input_differences(
    folder: Path, scorecard: Scorecard, evidence: Evidence
) -> tuple[str, ...]:
    """What the files beside the evidence say otherwise; a file that is missing is a difference, since nothing can be compared."""
    rows = _held_out(folder, scorecard)
    if isinstance(rows, str):
        return (rows, *_bias_differences(folder, scorecard, evidence))
    return (
        *_prompt_differences(rows, evidence),
        *_data_differences(folder, scorecard, rows),
        *_bias_differences(folder, scorecard, evidence),
    )


def _held_out(folder: Path, scorecard: Scorecard) -> tuple[Row, ...] | str:
    """The rows of the held-out split that the scorecard names, or why there are none to compare with."""
    path = folder / HELD_OUT
    if not path.is_file():
        return f"held_out: cannot be recomputed, since {HELD_OUT} is not in the folder. Score this adapter again"
    if sha256_of(path) != scorecard.held_out_sha256:
        return f"held_out: {HELD_OUT} is another split than the one that the scorecard names"
    try:
        rows = read_rows(path)
        for row in rows:
            row.model_dump_json().encode()  # half of a surrogate pair is JSON and no text: it has no bytes and no digest
    except ValueError as error:
        raise DamagedFile(
            f"{path} holds a line that is no row. Bring back the file that was stored there."
        ) from error
    return rows


def _prompt_differences(rows: tuple[Row, ...], evidence: Evidence) -> Iterator[str]:
    """Every system was asked every held-out prompt, in order, and each control is the one that scoring chooses."""
    prompts = prompts_of(rows)
    wanted = _asked(prompts)
    for system, same in evidence.rows.items():
        found = [
            (row.row.prompt_id, row.group, row.feature, row.content, row.row.references)
            for row in same
        ]
        if len(found) != len(wanted):
            yield f"evidence.{system}: {len(found)} prompts are in the evidence, {len(wanted)} in the held-out split"
        else:
            yield from differing(f"evidence.{system}.prompts", found, wanted)
    yield from _control_differences(prompts, evidence)


def _asked(prompts: tuple[Prompt, ...]) -> list[Asked]:
    contents = contents_of(prompts)
    return [
        (prompt.id, prompt.group, prompt.feature, content, prompt.references)
        for prompt, content in zip(prompts, contents, strict=True)
    ]


def _control_differences(
    prompts: tuple[Prompt, ...], evidence: Evidence
) -> Iterator[str]:
    controls = {
        asked: control.id for asked, control in control_prompts(prompts).items()
    }
    for system, same in evidence.rows.items():
        chosen = {row.row.prompt_id: row.control_prompt_id for row in same}
        wanted = controls if system == "adapter" else dict.fromkeys(controls)
        yield from differing(f"evidence.{system}.controls", chosen, wanted)


def _data_differences(
    folder: Path, scorecard: Scorecard, rows: tuple[Row, ...]
) -> Iterator[str]:
    """The dataset and the reports that `admit` judged are those of the held-out rows."""
    dataset = DatasetVersion.read(folder / "dataset.json").model_copy(
        update={"git_revision": None}
    )
    validation = ValidationReport.read(folder / "validation_report.json")
    if dataset.content_sha256() != scorecard.dataset_digest:
        yield "dataset: dataset.json is another dataset than the one that the scorecard names"
    split = validation.splits.get("held_out")
    if split is None or split.sha256 != scorecard.held_out_sha256:
        yield "validation: its report is about another held-out split than the one that the scorecard names"
    prompts = prompts_of(rows)
    counted = (
        len(rows),
        len({row.group for row in rows}),
        len(set(contents_of(prompts))),
    )
    stated = (
        validation.rows.get("held_out"),
        validation.groups.get("held_out"),
        (validation.contents or {}).get("held_out"),
    )
    if counted != stated:
        yield f"validation: held_out has (rows, groups, contents) {stated} in the report, {counted} in {HELD_OUT}"
    for name in SPLITS:
        there = validation.rows.get(name, -1)
        if not 0 <= there <= dataset.rows.get(name, -1):
            yield f"validation: {name} has {validation.rows.get(name)} rows in the report, {dataset.rows.get(name)} in the dataset"
        for what, counts in (
            ("groups", validation.groups),
            ("contents", validation.contents or {}),
        ):
            if not 0 <= counts.get(name, 0) <= there:
                yield f"validation: {name} has {counts.get(name)} {what} in {there} rows"
    yield from _data_bias_differences(folder, validation, rows)


def _data_bias_differences(
    folder: Path, validation: ValidationReport, rows: tuple[Row, ...]
) -> Iterator[str]:
    """The training rows are not in the folder: the report is held against itself, the counts, and the held-out rows."""
    report = BiasReport.read(folder / "bias_report.json")
    yield from (f"bias of the data: {sentence}" for sentence in contradictions(report))
    feature = load_params(folder / "params.yaml").data.sensitive_feature
    if report.feature != feature:
        yield f"bias of the data: it is about {report.feature}, params.yaml declares {feature}"
    if report.feature is None:
        return
    counted = report.without_value + sum(group.n for group in report.groups)
    if counted != sum(validation.rows.values()):
        yield f"bias of the data: it counts {counted} rows, {sum(validation.rows.values())} are in the splits"
    sizes = {group.group: group.n for group in report.groups}
    for name in sorted({row.feature for row in rows if row.feature is not None}):
        here = sum(row.feature == name for row in rows)
        if not sizes.get(name, 0) >= here:
            yield f"bias of the data: {name} has {sizes.get(name, 0)} rows in the report, {here} in {HELD_OUT} alone"


def _bias_differences(
    folder: Path, scorecard: Scorecard, evidence: Evidence
) -> Iterator[str]:
    """The bias report on outputs once more, from the answers that it was computed from."""
    path = folder / NAMED_ANSWERS
    if scorecard.named_answers is None or not path.is_file():
        yield f"scorecard.bias: cannot be recomputed, since {NAMED_ANSWERS} is not in the folder. Score this adapter again"
    elif sha256_of(path) != scorecard.named_answers.sha256:
        yield f"scorecard.bias: {NAMED_ANSWERS} is another file than the one that the scorecard names"
    else:
        found = output_bias_of(
            evidence,
            _named_answers(path),
            load_params(folder / "params.yaml"),
            scorecard.bias.min_group_size,
        )
        yield from differing(
            "scorecard.bias",
            scorecard.bias.model_dump(mode="json"),
            found.model_dump(mode="json"),
        )


def _named_answers(path: Path) -> tuple[NamedAnswer, ...]:
    try:
        return tuple(NamedAnswer.model_validate(record) for record in read_jsonl(path))
    except ValueError as error:
        raise DamagedFile(
            f"{path} holds a line that is no answer. Bring back the file that was stored there."
        ) from error
