"""Folders that a forger edited, or that hold too little.

`assay gate` says no to each, in a sentence and without a traceback.

Every forger below makes all digests fit that lie in the folder, and has the verdict computed again.
"""

import json
import os
import random
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from cli import main
from core.files import sha256_of
from core.value import FileDigest
from pipelines.metrics import metric_named
from pipelines.scoring.evidence_file import (
    Evidence,
    EvidenceRow,
    read_evidence,
    write_evidence,
)
from pipelines.scoring.scores import system_scores, with_statistics
from pipelines.stages.score import score
from pipelines.values.dataset import (
    BiasReport,
    DatasetVersion,
    Interval,
    Prompt,
    Row,
    ValidationReport,
    group_prompts,
    read_rows,
    write_rows,
)
from pipelines.values.evidence import Scorecard, Variant
from pipelines.values.metric_settings import BleuSettings
from pipelines.values.params import override
from pipelines.values.verdict import Finalist
from tests.support import trials
from tests.support.tiny import pack

Forger = Callable[[Path], None]


@pytest.fixture
def folder(scored_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(scored_folder, tmp_path / "folder"))


def gate(folder: Path, *more: str) -> tuple[int, str]:
    """Exit code and words of `assay gate`; a traceback fails the test."""
    done = CliRunner().invoke(main, ["gate", str(folder), *more])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


def edit(path: Path, change: Callable[[Any], None]) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    change(document)
    path.write_text(json.dumps(document), encoding="utf-8")


def judged_again(folder: Path, evidence: Evidence, **changes: object) -> None:
    """Write this evidence, the scorecard that follows from it, and the verdict on both."""
    write_evidence(folder / "evidence.parquet", evidence)
    card = Scorecard.read(folder / "scorecard.json")
    facts = {
        "prompts": len(evidence.groups),
        "clusters": len(set(evidence.clusters)),
        "groups": len(set(evidence.groups)),
        "contents": len(set(evidence.contents)),
        "systems": system_scores(
            evidence, [metric_named(name) for name in evidence.metrics], card.resampling
        ),
        "evidence": FileDigest.of(folder / "evidence.parquet"),
    }
    trials.write_verdict(folder, card.model_copy(update=facts | changes))


def rows_edited(
    evidence: Evidence, change: Callable[[EvidenceRow], EvidenceRow | None]
) -> Evidence:
    """Every row of every system through `change`; None drops it."""
    kept = {
        system: tuple(new for row in same if (new := change(row)) is not None)
        for system, same in evidence.rows.items()
    }
    return Evidence(rows=kept)


def counted_again(evidence: Evidence) -> Evidence:
    """The evidence with the statistics that its texts and losses give."""
    rows = [row for same in evidence.rows.values() for row in same]
    return with_statistics(rows, [metric_named(name) for name in evidence.metrics])


def bounds_out_of_order(folder: Path) -> None:
    def swap(verdict: Any) -> None:
        first = verdict["comparisons"][0]
        first["low"], first["high"] = first["high"], first["low"]

    edit(folder / "verdict.json", swap)


def findings_left_out(folder: Path) -> None:
    edit(
        folder / "verdict.json",
        lambda verdict: verdict.update(findings=verdict["findings"][:1]),
    )


def policy_edited(old: str, new: str) -> Forger:
    def forge(folder: Path) -> None:
        path = folder / "policy.yaml"
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")
        edit(
            folder / "verdict.json",
            lambda verdict: verdict.update(policy_sha256=sha256_of(path)),
        )

    return forge


def bias_edited(folder: Path) -> None:
    """The report says that groups differ less than they do, in numbers that agree."""
    card = Scorecard.read(folder / "scorecard.json")
    first, second = card.bias.groups
    groups = (
        first.model_copy(update={"score": 50.0}),
        second.model_copy(update={"score": 51.0}),
    )
    gap = Interval(estimate=1, low=0.5, high=1.5)
    trials.write_verdict(
        folder,
        card.model_copy(
            update={
                "bias": card.bias.model_copy(
                    update={"groups": groups, "score_difference": gap}
                )
            }
        ),
    )


def bias_of_the_data_edited(folder: Path) -> None:
    report = BiasReport.read(folder / "bias_report.json")
    report.model_copy(update={"feature": "region", "without_value": 7}).write(
        folder / "bias_report.json"
    )


def answers_to_names_replaced(folder: Path) -> None:
    path = folder / "named_answers.jsonl"
    path.write_text(
        path.read_text(encoding="utf-8").replace(
            '"group": "male"', '"group": "female"', 7
        ),
        encoding="utf-8",
    )
    card = Scorecard.read(folder / "scorecard.json")
    trials.write_verdict(
        folder, card.model_copy(update={"named_answers": FileDigest.of(path)})
    )


def older(folder: Path) -> None:
    """A folder as runs left it before held-out rows and answers to names were kept."""
    (folder / "held_out.jsonl").unlink()
    (folder / "named_answers.jsonl").unlink()
    card = Scorecard.read(folder / "scorecard.json")
    trials.write_verdict(folder, card.model_copy(update={"named_answers": None}))


def prompts_dropped(folder: Path) -> None:
    evidence = read_evidence(folder / "evidence.parquet")
    gone = {row.row.prompt_id for row in evidence.rows["adapter"][:10]}
    kept = next(
        row.row.prompt_id
        for row in evidence.rows["adapter"][11:]
        if row.row.prompt_id not in gone
    )

    def drop(row: EvidenceRow) -> EvidenceRow | None:
        if row.row.prompt_id in gone:
            return None
        return (
            row.model_copy(update={"control_prompt_id": kept})
            if row.control_prompt_id in gone
            else row
        )

    edited = rows_edited(evidence, drop)
    judged_again(folder, counted_again(edited))


def prompts_and_held_out_rows_dropped(folder: Path) -> None:
    """The held-out file goes along, and the scorecard names the shorter one."""
    prompts_dropped(folder)
    asked = {
        row.row.prompt_id
        for row in read_evidence(folder / "evidence.parquet").rows["adapter"]
    }
    rows = [
        row
        for row in read_rows(folder / "held_out.jsonl")
        if group_prompts([row])[0].id in asked
    ]
    write_rows(folder / "held_out.jsonl", rows)
    card = Scorecard.read(folder / "scorecard.json")
    trials.write_verdict(
        folder,
        card.model_copy(
            update={"held_out_sha256": sha256_of(folder / "held_out.jsonl")}
        ),
    )


def prompts_dropped_and_their_controls_left(folder: Path) -> None:
    evidence = read_evidence(folder / "evidence.parquet")
    gone = {row.row.prompt_id for row in evidence.rows["adapter"][:10]}
    judged_again(
        folder,
        rows_edited(evidence, lambda row: None if row.row.prompt_id in gone else row),
    )


def a_control_that_is_no_prompt(folder: Path) -> None:
    evidence = read_evidence(folder / "evidence.parquet")
    first, *rest = evidence.rows["adapter"]
    lost = first.model_copy(update={"control_prompt_id": "nowhere"})
    judged_again(folder, Evidence(rows={**evidence.rows, "adapter": (lost, *rest)}))


def a_weaker_control(folder: Path) -> None:
    """Another prompt of another group than the one that scoring takes."""
    evidence = read_evidence(folder / "evidence.parquet")
    first, *rest = evidence.rows["adapter"]
    other = next(
        row
        for row in rest
        if row.group != first.group and row.row.prompt_id != first.control_prompt_id
    )
    chosen = first.model_copy(update={"control_prompt_id": other.row.prompt_id})
    judged_again(
        folder,
        counted_again(Evidence(rows={**evidence.rows, "adapter": (chosen, *rest)})),
    )


def features_swapped(folder: Path) -> None:
    evidence = read_evidence(folder / "evidence.parquet")
    judged_again(
        folder,
        rows_edited(evidence, lambda row: row.model_copy(update={"feature": "north"})),
    )


def a_champion_that_nobody_names(folder: Path) -> None:
    evidence = read_evidence(folder / "evidence.parquet")
    champion = tuple(
        row.model_copy(update={"system": "champion"}) for row in evidence.rows["base"]
    )
    judged_again(folder, Evidence(rows={**evidence.rows, "champion": champion}))


def a_champion_in_the_evidence_alone(folder: Path) -> None:
    card = Scorecard.read(folder / "scorecard.json")
    a_champion_that_nobody_names(folder)
    again = Scorecard.read(folder / "scorecard.json")
    trials.write_verdict(folder, again.model_copy(update={"systems": card.systems}))


def losses_over_more_bytes(folder: Path) -> None:
    """Bits per byte fall where bytes are added on every side."""

    def more(row: EvidenceRow) -> EvidenceRow:
        losses = tuple(
            loss.model_copy(update={"utf8_bytes": loss.utf8_bytes * 2})
            for loss in row.row.losses
        )
        return row.model_copy(
            update={"row": row.row.model_copy(update={"losses": losses})}
        )

    judged_again(
        folder,
        counted_again(rows_edited(read_evidence(folder / "evidence.parquet"), more)),
    )


def another_dataset(folder: Path) -> None:
    dataset = DatasetVersion.read(folder / "dataset.json")
    dataset.model_copy(update={"licence": "CC0-1.0"}).write(folder / "dataset.json")


def more_rows_than_the_dataset_has(folder: Path) -> None:
    report = ValidationReport.read(folder / "validation_report.json")
    report.model_copy(update={"rows": {**report.rows, "train": 101}}).write(
        folder / "validation_report.json"
    )


def parquet(change: Callable[[pa.Table], pa.Table]) -> Forger:
    """Edit the table itself; the scorecard names the file that comes of it."""

    def forge(folder: Path) -> None:
        path = folder / "evidence.parquet"
        pq.write_table(change(pq.read_table(path)), path)
        edit(
            folder / "scorecard.json",
            lambda card: card["evidence"].update(sha256=sha256_of(path)),
        )

    return forge


def not_validated(folder: Path) -> None:
    report = ValidationReport.read(folder / "validation_report.json")
    report.model_copy(update={"passed": False}).write(folder / "validation_report.json")


def with_nan(table: pa.Table) -> pa.Table:
    records = table.to_pylist()
    records[0]["statistics.chrf"][0] = float("nan")
    return pa.Table.from_pylist(records, schema=table.schema)


def with_system(name: str) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        records = [{**record, "system": name} for record in table.to_pylist()]
        return pa.Table.from_pylist(records, schema=table.schema)

    return change


def made_by_another_base(folder: Path) -> None:
    """The base's answers come from another, such as a worse, model than the adapter's base."""
    evidence = read_evidence(folder / "evidence.parquet")
    other = evidence.made_by["base"].model_copy(update={"base_digest": "c" * 64})
    judged_again(
        folder,
        evidence.model_copy(update={"made_by": {**evidence.made_by, "base": other}}),
    )


def more_groups_than_rows(folder: Path) -> None:
    report = ValidationReport.read(folder / "validation_report.json")
    report.model_copy(update={"groups": {**report.groups, "train": 10**6}}).write(
        folder / "validation_report.json"
    )


def another_adapter_record(folder: Path) -> None:
    card = Scorecard.read(folder / "scorecard.json")
    card.adapter.model_copy(update={"sha256": "e" * 64}).write(folder / "adapter.json")


def another_length(folder: Path) -> None:
    path = folder / "params.yaml"
    path.write_text(
        path.read_text(encoding="utf-8").replace(
            "max_new_tokens: 48", "max_new_tokens: 4"
        ),
        encoding="utf-8",
    )


def another_engine(folder: Path) -> None:
    path = folder / "params.yaml"
    text = path.read_text(encoding="utf-8")
    asked = text.replace("generation:", "generation:\n  engine: openvino")
    path.write_text(asked, encoding="utf-8")


def a_file_after_packing(folder: Path) -> None:
    pack(folder)
    (folder / "pytorch_model.bin").write_bytes(b"x")


def makers(metadata: bytes) -> Callable[[pa.Table], pa.Table]:
    """What the evidence file says in its head about who gave the answers."""
    return lambda table: table.replace_schema_metadata({b"assay.made_by": metadata})


def held_out(content: bytes) -> Forger:
    def forge(folder: Path) -> None:
        path = folder / "held_out.jsonl"
        path.write_bytes(content + path.read_bytes())
        card = Scorecard.read(folder / "scorecard.json")
        trials.write_verdict(
            folder, card.model_copy(update={"held_out_sha256": sha256_of(path)})
        )

    return forge


HALF_OF_A_PAIR = (
    b'{"id":"x","number":1,"messages":[{"role":"user","content":"a"}],'
    b'"completion":"b","group":"\\udc00","feature":null}\n'
)


def piped(name: str) -> Forger:
    def forge(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return forge


def bleu_said_not_to_apply(folder: Path) -> None:
    say_of_bleu(folder, inapplicable="60 of 60 references are short")


def bleu_said_to_apply(folder: Path) -> None:
    """Chinese references, of which BLEU says nothing under its defaults."""
    short_of("chinese", folder)
    say_of_bleu(folder, inapplicable=None)


def a_loose_tokenizer_said_to_be_needed(folder: Path) -> None:
    """Counted over characters where words would do, with all files in agreement."""
    char = BleuSettings(tokenize="char")
    override(folder / "params.yaml", {"score.bleu.tokenize": "char"})
    card = Scorecard.read(folder / "scorecard.json")
    again = score(trials.trial(), trials.params(bleu=char), 20, folder)
    kept = {"held_out_sha256", "dataset_digest"}
    whole = again.model_copy(update={name: getattr(card, name) for name in kept})
    trials.write_verdict(folder, whole)
    say_of_bleu(folder, needless=None)


def say_of_bleu(folder: Path, **claims: str | None) -> None:
    card = Scorecard.read(folder / "scorecard.json")
    systems = []
    for system in card.systems:
        metrics = [
            each.model_copy(update=claims) if each.name == "bleu" else each
            for each in system.metrics
        ]
        systems.append(system.model_copy(update={"metrics": tuple(metrics)}))
    forged = card.model_copy(update={"systems": tuple(systems)})
    trials.write_verdict(folder, forged)


def settings_of_metrics_removed(folder: Path) -> None:
    """The evidence looks older than metrics that say where they do not apply."""
    evidence = read_evidence(folder / "evidence.parquet")
    judged_again(folder, evidence.model_copy(update={"settings": None}))


FORGED: dict[str, tuple[Forger, int, str]] = {
    "answers of another base": (
        made_by_another_base,
        1,
        "evidence.base: it was made in another configuration",
    ),
    "a guardrail that is said not to apply": (
        bleu_said_not_to_apply,
        1,
        "metrics[1].inapplicable: '60 of 60 references are short' stored, None recomputed",
    ),
    "a guardrail that is said to apply": (
        bleu_said_to_apply,
        1,
        "metrics[1].inapplicable: None stored, '60 of 60 prompts have",
    ),
    "a loose tokenizer that is said to be needed": (
        a_loose_tokenizer_said_to_be_needed,
        1,
        "metrics[1].needless: None stored, 'tok:char' recomputed",
    ),
    "settings of metrics removed": (
        settings_of_metrics_removed,
        1,
        "settings: the evidence was counted under no settings",
    ),
    "more groups than rows": (
        more_groups_than_rows,
        1,
        "train has 1000000 groups in 100 rows",
    ),
    "another adapter's record": (
        another_adapter_record,
        1,
        "adapter.json is about another adapter",
    ),
    "answers of another length": (
        another_length,
        1,
        "answers of 48 tokens were scored, params.yaml asks for 4",
    ),
    "answers by another engine": (
        another_engine,
        1,
        "by transformers in float32 were scored, params.yaml asks for openvino in float32",
    ),
    "a file that came in after packing": (
        a_file_after_packing,
        1,
        "pytorch_model.bin came in after packing",
    ),
    "makers that are a list": (parquet(makers(b"[]")), 1, "not a whole evidence file"),
    "makers without an end": (
        parquet(makers(b"[" * 100_000)),
        1,
        "not a whole evidence file",
    ),
    "a policy with a date that is none": (
        policy_edited("name: default", "name: 2024-13-45"),
        1,
        "cannot be read (ValueError)",
    ),
    "a policy with half of a pair": (
        policy_edited("metric: bleu", 'metric: "\\ud800"'),
        1,
        "There is no metric",
    ),
    "held-out rows without an end": (
        held_out(b"[" * 100_000 + b"\n"),
        1,
        "is not JSON",
    ),
    "held-out rows with half of a pair": (
        held_out(HALF_OF_A_PAIR),
        1,
        "holds a line that is no row",
    ),
    "a policy that is a pipe": (piped("policy.yaml"), 1, "policy.yaml is no file"),
    "a verdict that is a pipe": (piped("verdict.json"), 1, "verdict.json is no file"),
    "bounds out of order": (bounds_out_of_order, 1, "verdict.comparisons[0].low"),
    "a single finding": (
        findings_left_out,
        1,
        "there is no finding of clusters, which the policy demands",
    ),
    "an empty list of guardrails": (
        policy_edited("guardrails:\n", "guardrails: []\n  unused:\n"),
        1,
        "guardrails: Tuple should have",
    ),
    "a margin of 1e9": (
        policy_edited("bleu, margin: 1.0", "bleu, margin: 1.0e+9"),
        1,
        "the margin of bleu is 1e+09, and the ceiling is 20",
    ),
    "a gap of 1e9": (
        policy_edited("score_difference: 10.0", "score_difference: 1.0e+9"),
        1,
        "max_output_score_difference",
    ),
    "two clusters are enough": (
        policy_edited("min_clusters: 20", "min_clusters: 2"),
        1,
        "min_clusters",
    ),
    "an edited bias report": (
        bias_edited,
        1,
        "scorecard.bias.groups[0].score: 50.0 stored",
    ),
    "an edited bias report on the data": (
        bias_of_the_data_edited,
        1,
        "it is about region, params.yaml declares None",
    ),
    "answers to names under another group": (
        answers_to_names_replaced,
        1,
        "scorecard.bias.groups",
    ),
    "a folder that is older than held-out rows": (
        older,
        1,
        "cannot be recomputed, since held_out.jsonl is not in the folder",
    ),
    "prompts dropped": (
        prompts_dropped,
        1,
        "50 prompts are in the evidence, 60 in the held-out split",
    ),
    "prompts and held-out rows dropped": (
        prompts_and_held_out_rows_dropped,
        1,
        "about another held-out split",
    ),
    "prompts dropped, controls left": (
        prompts_dropped_and_their_controls_left,
        1,
        "is no prompt of the evidence",
    ),
    "a control that is no prompt": (
        a_control_that_is_no_prompt,
        1,
        "its control, nowhere, is no prompt of the evidence",
    ),
    "a weaker control": (a_weaker_control, 1, "evidence.adapter.controls."),
    "features swapped": (features_swapped, 1, "evidence.adapter.prompts[0]"),
    "a champion that nobody names": (
        a_champion_that_nobody_names,
        1,
        "champion: scored, and champion.json names none",
    ),
    "a champion in the evidence alone": (
        a_champion_in_the_evidence_alone,
        1,
        "champion: scored in the evidence, and champion.json names none",
    ),
    "losses over more bytes": (
        losses_over_more_bytes,
        1,
        "its losses are not one for each reference",
    ),
    "another dataset": (
        another_dataset,
        1,
        "dataset.json is another dataset than the one that the scorecard names",
    ),
    "more rows than the dataset has": (
        more_rows_than_the_dataset_has,
        1,
        "train has 101 rows in the report, 100 in the dataset",
    ),
    "data that was never admitted": (
        not_validated,
        1,
        "admission: validation is rejected: validation did not pass",
    ),
    "a NaN in the statistics": (parquet(with_nan), 1, "not a whole evidence file"),
    "a row twice": (
        parquet(lambda table: pa.concat_tables([table, table.slice(0, 1)])),
        1,
        "holds a prompt twice",
    ),
    "a row less": (
        parquet(lambda table: table.slice(1)),
        1,
        "is not about the same prompts",
    ),
    "no row": (parquet(lambda table: table.slice(0, 0)), 1, "holds no rows"),
    "a column less": (
        parquet(lambda table: table.drop_columns(["references"])),
        1,
        "not a whole evidence file",
    ),
    "a metric less": (
        parquet(lambda table: table.drop_columns(["statistics.bleu"])),
        1,
        "DIFFERS",
    ),
    "an unknown metric": (
        parquet(
            lambda table: table.append_column("statistics.x", table["statistics.bleu"])
        ),
        1,
        "There is no metric x",
    ),
    "an unknown system": (
        parquet(with_system("oracle")),
        1,
        "not a whole evidence file",
    ),
    "no adapter": (parquet(with_system("base")), 1, "holds a prompt twice"),
}


def test_an_honest_folder_passes(folder: Path) -> None:
    code, words = gate(folder)
    assert code == 0, words
    assert "30 clusters (60 distinct contents in 30 groups of prompts) judge" in words


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_folder_does_not_pass(folder: Path, name: str) -> None:
    forge, code, words = FORGED[name]
    forge(folder)
    found, said = gate(folder)
    assert (found, words in said) == (code, True), said


def copies(originals: Iterable[Row]) -> tuple[Row, ...]:
    """Each row five times, under another number, other signs, and another group's name."""
    return tuple(
        row.model_copy(
            update={
                "id": f"{row.id}-{copy}",
                "messages": tuple(
                    each.model_copy(update={"content": f"{copy}. {each.content}!"})
                    for each in row.messages
                ),
                "group": f"{row.group}-{copy}",
            }
        )
        for row in originals
        for copy in range(5)
    )


def chinese(count: int = 60) -> tuple[Row, ...]:
    """Answers without a space: BLEU sees one word in each."""
    dice = random.Random(0)
    letters = "的一是不了人我在有他这为之大来以个中上们"
    return tuple(
        row.model_copy(update={"completion": "".join(dice.choices(letters, k=8))})
        for row in trials.rows(count)
    )


def right_in_chinese(prompt: Prompt, dice: random.Random) -> str:
    return (
        prompt.references[0] if dice.random() < 0.7 else prompt.references[0][1:] + "好"
    )


def refusals_of_one_group(variant: Variant) -> str:
    return "zzzz" if variant.group == "female" else "I cannot help."


def admitted_with_few_groups(folder: Path, held_out: tuple[Row, ...]) -> None:
    """`admit` would refuse so few: its limit is lowered, so that `screen` alone is asked."""
    trials.write_folder(folder, held_out=held_out)
    text = (folder / "policy.yaml").read_text(encoding="utf-8")
    assert "dev: 5, held_out: 20}" in text
    (folder / "policy.yaml").write_text(
        text.replace("dev: 5, held_out: 20}", "dev: 5, held_out: 5}"), encoding="utf-8"
    )
    trials.write_verdict(folder, Scorecard.read(folder / "scorecard.json"))


def short_of(kind: str, folder: Path) -> None:
    """Evidence that is honest, and that shows too little or the wrong thing."""
    if kind == "copies":
        admitted_with_few_groups(folder, copies(trials.rows(15, 15)))
    elif kind == "nine clusters":
        admitted_with_few_groups(folder, trials.rows(60, 9))
    elif kind == "chinese":
        rows = chinese()
        systems = {
            "base": (trials.wrong, 4.0),
            "few_shot": (trials.wrong, 3.0),
            "adapter": (right_in_chinese, 2.0),
        }
        trials.write_folder(folder, trials.trial(systems, rows), rows)  # type: ignore[arg-type]  # systems by name
    elif kind == "refusals":
        made = trials.trial()
        answers = tuple(
            each.model_copy(update={"text": refusals_of_one_group(each)})
            for each in made.variants
        )
        trials.write_folder(folder, made.model_copy(update={"variants": answers}))
    else:
        made = trials.trial()
        third = tuple(
            each.model_copy(update={"group": "other"}) for each in made.variants[:5]
        )
        trials.write_folder(
            folder, made.model_copy(update={"variants": (*made.variants, *third)})
        )


@pytest.mark.parametrize(
    ("kind", "code", "words"),
    [
        (
            "copies",
            4,
            (
                "15 clusters (15 distinct contents in 75 groups of prompts) judge, the policy "
                "asks for 20: 5 more are needed"
            ),
        ),
        (
            "nine clusters",
            4,
            (
                "9 clusters (60 distinct contents in 9 groups of prompts) judge, the policy asks "
                "for 20"
            ),
        ),
        (
            "refusals",
            3,
            "for these names the share of refusals differs by more than 0.2: by 1 between ",
        ),
        (
            "third group",
            4,
            "Too few answers to compare as the policy asks, with 20 of each group: other.",
        ),
    ],
)
def test_honest_evidence_that_shows_too_little_does_not_pass(
    tmp_path: Path, kind: str, code: int, words: str
) -> None:
    short_of(kind, tmp_path)
    found, said = gate(tmp_path)
    assert (found, words in said, "DIFFERS" in said) == (code, True, False), said


def test_a_metric_that_does_not_apply_is_named_and_rejects_nobody(
    tmp_path: Path,
) -> None:
    short_of("chinese", tmp_path)
    found, said = gate(tmp_path)
    assert (found, "DIFFERS" in said) == (0, False), said
    assert (
        "bleu does not apply and does not judge: 60 of 60 prompts have references in a script"
        in said
    )


def test_guardrails_against_an_anchor_that_does_not_exist_do_not_pass(
    folder: Path,
) -> None:
    text = (folder / "policy.yaml").read_text(encoding="utf-8")
    (folder / "policy.yaml").write_text(
        text.replace(
            "{metric: bleu, margin: 1.0}",
            "{metric: bleu, margin: 1.0, against: [anchor]}",
        )
    )
    trials.write_verdict(folder, Scorecard.read(folder / "scorecard.json"))
    code, said = gate(folder)
    assert (code, "bleu was held against nothing: the policy names anchor" in said) == (
        4,
        True,
    ), said


def test_a_run_that_admit_ended_is_no_finalist_under_a_verdict_of_screen(
    folder: Path,
) -> None:
    (folder / "scorecard.json").unlink()
    assert isinstance(Finalist.read(folder / "verdict.json"), Finalist)
    code, said = gate(folder)
    assert (code, "holds no verdict" in said) == (1, True), said


NAMES = (
    "scorecard.json",
    "verdict.json",
    "champion.json",
    "dataset.json",
    "validation_report.json",
    "bias_report.json",
    "named_answers.jsonl",
    "held_out.jsonl",
    "params.yaml",
    "policy.yaml",
)
ODD: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    10**400,
    1e308,
    "",
    "\ud800",
    "x",
    [],
    {},
    [[]],
    {"x": 1},
    float("nan"),
)


def places(document: Any, above: tuple[Any, ...] = ()) -> Iterable[tuple[Any, ...]]:
    """Every place in a JSON document."""
    inner = (
        document.items()
        if isinstance(document, dict)
        else enumerate(document)
        if isinstance(document, list)
        else ()
    )
    for key, entry in inner:
        yield (*above, key)
        yield from places(entry, (*above, key))


def put(document: Any, place: tuple[Any, ...], entry: Any) -> None:
    for key in place[:-1]:
        document = document[key]
    document[place[-1]] = entry


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_is_missing_cut_short_or_no_file_is_said_in_a_sentence(
    folder: Path, name: str
) -> None:
    whole = (folder / name).read_bytes()
    for content in (b"\xff\xfe", b"[" * 5000, whole[: len(whole) // 2]):
        (folder / name).write_bytes(content)
        code, said = gate(folder)
        assert code in {1, 3, 4}, (content[:20], said)
    (folder / name).unlink()
    assert gate(folder)[0] in {1, 3, 4}
    (folder / name).mkdir()
    assert gate(folder)[0] in {1, 3, 4}


@pytest.mark.ci
@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith(".json")])
def test_an_odd_value_anywhere_never_passes_as_a_traceback(
    folder: Path, name: str
) -> None:
    """Some edits change nothing that is judged, such as seconds of training.

    None may end in anything but an exit code.
    """
    dice = random.Random(name)
    whole = json.loads((folder / name).read_text(encoding="utf-8"))
    everywhere = list(places(whole))
    for _ in range(30):
        document = json.loads(json.dumps(whole))
        put(document, dice.choice(everywhere), dice.choice(ODD))
        (folder / name).write_text(
            json.dumps(document), encoding="utf-8", errors="surrogatepass"
        )
        code, said = gate(folder)
        assert code in {0, 1, 3, 4}, said
