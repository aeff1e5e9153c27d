"""Trials made small.

Real rows, answers and losses, in memory and as the files that the stages before `score` write.
"""

import random
from collections.abc import Callable, Sequence
from pathlib import Path

from core.files import digest_of_json, sha256_of, write_jsonl, write_text
from core.value import FileDigest
from pipelines.gates.policy import Policy, load_policy
from pipelines.metrics import metric_named
from pipelines.rows.contents import digest_contents
from pipelines.scoring.evidence_file import (
    Evidence,
    EvidenceRow,
    read_evidence,
    write_evidence,
)
from pipelines.stages.score import build_evidence, score
from pipelines.stages.screen import screen_evidence
from pipelines.values.champion import ChampionInput
from pipelines.values.dataset import (
    SPLITS,
    BiasReport,
    DatasetVersion,
    ExpectationResult,
    GroupRate,
    Interval,
    Message,
    Prompt,
    Row,
    ValidationReport,
    group_prompts,
    write_rows,
)
from pipelines.values.evidence import (
    Adapter,
    Completion,
    Completions,
    DevLoss,
    Resampling,
    Scorecard,
    System,
    TokenLoss,
    Variant,
)
from pipelines.values.metric_settings import MetricSettings
from pipelines.values.params import LoraParams, Params, load_params
from pipelines.values.serving_spec import ServingSpec
from pipelines.values.trial import SystemAnswers, Trial
from pipelines.values.verdict import Finalist, Rejection, Undecided

POLICY = Path(__file__).parents[2] / "registry/policies/default.yaml"
PARAMS = Path(__file__).parents[2] / "params.yaml"
WORDS = [
    "alpha",
    "bravo",
    "charlie",
    "delta",
    "echo",
    "foxtrot",
    "golf",
    "hotel",
    "india",
    "juliet",
    "kilo",
    "lima",
    "mike",
    "november",
    "oscar",
    "papa",
    "quebec",
    "romeo",
    "sierra",
]
RESAMPLING = Resampling(resamples=400, seed=0)

Answer = Callable[[Prompt, random.Random], str]


def right(prompt: Prompt, dice: random.Random) -> str:
    """The reference, with one word lost now and then."""
    words = prompt.references[0].split()
    return " ".join(words if dice.random() < 0.7 else words[1:])


def wrong(prompt: Prompt, dice: random.Random) -> str:
    """Words that have nothing to do with the prompt."""
    return " ".join(dice.choices(WORDS, k=6))


def rows(count: int = 60, groups: int = 30, seed: int = 0) -> tuple[Row, ...]:
    """Commands of six random words each; the rows of a group share none."""
    dice = random.Random(seed)
    return tuple(
        Row(
            id=f"row-{number}",
            number=number + 1,
            messages=(Message(role="user", content=f"task {seed} {number}"),),
            completion=" ".join(dice.choices(WORDS, k=6)),
            group=f"group-{number % groups}",
        )
        for number in range(count)
    )


def adapter(**changes: object) -> Adapter:
    """An adapter that was really trained."""
    facts: dict[str, object] = {
        "folder": "data/fine_tune/adapter",
        "files": {"adapter_model.safetensors": "0" * 64},
        "sha256": "a" * 64,
        "base_id": "tiny",
        "base_revision": "1",
        "base_digest": "b" * 64,
        "chat_template_sha256": None,
        "lora": LoraParams(r=4, alpha=8, dropout=0.0, target_modules="all-linear"),
        "steps": 8,
        "train_loss": 1.0,
        "dev_losses": (
            DevLoss(step=0, loss=3.0),
            DevLoss(step=4, loss=2.0),
            DevLoss(step=8, loss=2.5),
        ),
        "best_step": 4,
        "moved": 0.5,
        "resumed_from": (),
        "precision": "float32",
        "device": "cpu",
        "real_tokens": 100,
        "seconds": 1.0,
    }
    return Adapter.model_validate(facts | changes)


def system_answers(
    system: System,
    prompts: Sequence[Prompt],
    answer: Answer,
    nats: float,
    tokens_per_word: int = 1,
) -> SystemAnswers:
    """One system's answers, each reference with `nats` a token."""
    dice = random.Random(system)
    answers = tuple(
        Completion(prompt_id=prompt.id, text=answer(prompt, dice), tokens=6, ended=True)
        for prompt in prompts
    )
    losses = tuple(
        TokenLoss(
            prompt_id=prompt.id,
            reference=number,
            nats=nats * 7 * dice.uniform(0.9, 1.1),
            tokens=7 * tokens_per_word,
            utf8_bytes=len(reference.encode()),
        )
        for prompt in prompts
        for number, reference in enumerate(prompt.references)
    )
    return SystemAnswers(
        completions=completions(system, prompts, len(answers)),
        answers=answers,
        losses=losses,
    )


def completions(system: System, prompts: Sequence[Prompt], count: int) -> Completions:
    """The record of a system's answers."""
    return Completions(
        system=system,
        spec=spec(system),
        prompt_prefix_sha256=None,
        prompts_sha256=digest_of_json([prompt.model_dump() for prompt in prompts]),
        seed=0,
        rows=count,
        answers=FileDigest(path="answers", sha256="0"),
        losses=FileDigest(path="losses", sha256="0"),
    )


def spec(system: System = "adapter") -> ServingSpec:
    """What answered; an adapter only for the adapter's own answers."""
    return ServingSpec(
        base_digest="b" * 64,
        adapter_sha256="a" * 64 if system == "adapter" else None,
        chat_template_sha256=None,
        engine="transformers",
        engine_version="1",
        precision="float32",
        default_max_tokens=48,
    )


def trial(
    systems: dict[System, tuple[Answer, float]] | None = None,
    held_out: Sequence[Row] | None = None,
) -> Trial:
    """A trial in which the adapter is right and the others are wrong, unless told otherwise."""
    prompts = group_prompts(held_out or rows())
    answering = systems or {
        "base": (wrong, 4.0),
        "few_shot": (wrong, 3.0),
        "adapter": (right, 2.0),
    }
    dev = group_prompts(rows(30, 10, seed=1))
    return Trial(
        dataset_digest="d" * 64,
        held_out_sha256="e" * 64,
        prompts=prompts,
        adapter=adapter(),
        systems=tuple(
            system_answers(system, prompts, *answering[system]) for system in answering
        ),
        dev_prompts=dev,
        variants=tuple(
            Variant(
                group=group, name=name, prompt_id=prompt.id, text=prompt.references[0]
            )
            for place, prompt in enumerate(dev)
            for group in ("female", "male")
            for name in (f"{group} {place % 10}",)
        ),
    )


def evidence(of: Trial | None = None) -> Evidence:
    """A trial's evidence for every metric of the project's parameters."""
    metrics = [metric_named(name) for name in load_params(PARAMS).score.metrics]
    return build_evidence(of or trial(), metrics, MetricSettings())


def params(**score: object) -> Params:
    """The project's parameters, with a few resamples only."""
    settings = load_params(PARAMS)
    return settings.model_copy(
        update={"score": settings.score.model_copy(update={"resamples": 400, **score})}
    )


def policy(**screen: object) -> Policy:
    """The default policy, with a few resamples only."""
    default = load_policy(POLICY)
    gate = type(default.gates.screen).model_validate(
        default.gates.screen.model_dump() | {"resamples": 1000, **screen}
    )
    return Policy(
        sha256=default.sha256, gates=default.gates.model_copy(update={"screen": gate})
    )


def bias(gap: Interval | None = None, small: tuple[str, ...] = ()) -> BiasReport:
    """A bias report on outputs with this gap in scores between two groups.

    The groups in `small` have too few rows.
    """
    scores = (0.0, gap.estimate) if gap is not None else ()
    compared = [
        GroupRate(group=name, n=30, rate=0.5, score=score, refused=0.0)
        for name, score in zip("ab", scores, strict=False)
    ]
    none = None if gap is None else Interval(estimate=0, low=0, high=0)
    return BiasReport(
        subject="outputs",
        method="name templates",
        feature=None,
        metric="sentence chrF",
        min_group_size=20,
        groups=(
            *compared,
            *(GroupRate(group=name, n=5, rate=None, score=None) for name in small),
        ),
        insufficient=small,
        demographic_parity_difference=none,
        demographic_parity_ratio=None,
        score_difference=gap,
        refusal_difference=none,
    )


def data_bias() -> BiasReport:
    """The report on data without a declared feature."""
    nothing: dict[str, object] = dict.fromkeys(
        (
            "demographic_parity_difference",
            "demographic_parity_ratio",
            "score_difference",
        )
    )
    facts = {
        "subject": "data",
        "method": "not applicable",
        "feature": None,
        "metric": "completion_characters",
        "min_group_size": 20,
    }
    return BiasReport.model_validate(
        {**nothing, **facts, "groups": (), "insufficient": ()}
    )


def validation(held_out: Sequence[Row], sha256: str) -> ValidationReport:
    """A report that the default policy admits, about this held-out split."""
    counts = {"train": 100, "dev": 30}
    contents = len(set(digest_contents(group_prompts(held_out))))
    expectation = ExpectationResult(
        name="expect_a", column="x", passed=True, failed_rows=0, sample_row_ids=()
    )
    return ValidationReport(
        suite_sha256="0" * 64,
        passed=True,
        rows={**counts, "held_out": len(held_out)},
        groups={**counts, "held_out": len({row.group for row in held_out})},
        contents={**counts, "held_out": contents},
        expectations=(expectation,),
        quarantine=FileDigest(path="data/validate/quarantine.jsonl", sha256="0" * 64),
        quarantined={},
        splits={
            name: FileDigest(path=f"data/validate/{name}.jsonl", sha256=sha256)
            for name in SPLITS
        },
    )


def write_folder(
    folder: Path,
    trial_result: Trial | None = None,
    held_out: Sequence[Row] | None = None,
) -> Scorecard:
    """Write what a run that was scored leaves.

    Reports, held-out rows, evidence, policy and verdict, all in one folder.
    """
    judged = held_out or rows()
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(folder / "held_out.jsonl", judged)
    sha256 = sha256_of(folder / "held_out.jsonl")
    counted = {
        "rows": {"train": 100, "dev": 30, "held_out": len(judged)},
        "overlap": {"prompts": 0, "rows": 0},
    }
    version = dataset().model_copy(update=counted)
    version.write(folder / "dataset.json")
    validation(judged, sha256).write(folder / "validation_report.json")
    data_bias().write(folder / "bias_report.json")
    write_text(folder / "policy.yaml", POLICY.read_text(encoding="utf-8"))
    ChampionInput(champion=None).write(folder / "champion.json")
    write_text(
        folder / "params.yaml",
        PARAMS.read_text(encoding="utf-8").replace("resamples: 2000", "resamples: 400"),
    )
    whole = (trial_result or trial(held_out=judged)).model_copy(
        update={"held_out_sha256": sha256, "dataset_digest": version.content_sha256()}
    )
    card = score(whole, params(), 20, folder)
    write_verdict(folder, card)
    return card


def write_verdict(folder: Path, card: Scorecard) -> Finalist | Rejection | Undecided:
    """Write the scorecard, and the verdict that it and the folder's evidence give."""
    limits = load_policy(folder / "policy.yaml")
    evidence_there = read_evidence(folder / "evidence.parquet")
    verdict = screen_evidence(card, evidence_there, limits)
    card.write(folder / "scorecard.json")
    verdict.write(folder / "verdict.json")
    return verdict


def write_trial(
    folder: Path, trial_result: Trial, held_out: Sequence[Row], dev: Sequence[Row]
) -> None:
    """Write a trial as the stages before `score` do, below `folder`/data."""
    data = folder / "data"
    write_rows(data / "validate/held_out.jsonl", held_out)
    write_rows(data / "admit/training_set/dev.jsonl", dev)
    dataset().write(data / "split/dataset.json")
    trial_result.adapter.write(data / "fine_tune/adapter.json")
    write_jsonl(
        data / "generate/variants.jsonl",
        (variant.model_dump() for variant in trial_result.variants),
    )
    for answers in trial_result.systems:
        write_answers(folder, answers)


def write_answers(folder: Path, answers: SystemAnswers) -> None:
    """Write one system's answers where `score` looks for them."""
    prompted = {"base", "few_shot", "retrieval"}
    stage = "prompt_baselines" if answers.system in prompted else "generate"
    digests = {}
    for kind, lines in (("answers", answers.answers), ("losses", answers.losses)):
        path = Path(f"data/{stage}/{answers.system}.{kind}.jsonl")
        write_jsonl(folder / path, (line.model_dump() for line in lines))
        digests[kind] = FileDigest(
            path=path.as_posix(), sha256=FileDigest.of(folder / path).sha256
        )
    answers.completions.model_copy(update=digests).write(
        folder / f"data/{stage}/{answers.system}.json"
    )


def dataset() -> DatasetVersion:
    """A dataset's record."""
    return DatasetVersion(
        path="data/split",
        md5="0" * 32,
        sha256="0" * 64,
        source="test",
        licence="MIT",
        source_rows=90,
        duplicates=0,
        rows={"train": 0, "dev": 30, "held_out": 60},
        groups={"train": 0, "dev": 10, "held_out": 30},
        overlap={},
        held_out_is_fixed=False,
    )


def rewrite_evidence(
    folder: Path, change: Callable[[EvidenceRow], EvidenceRow]
) -> None:
    """Have a folder's evidence hold other rows, and its scorecard name it."""
    path = folder / "evidence.parquet"
    there = read_evidence(path)
    changed = {
        system: tuple(change(row) for row in same)
        for system, same in there.rows.items()
    }
    write_evidence(path, there.model_copy(update={"rows": changed}))
    name_evidence(folder)


def name_evidence(folder: Path) -> None:
    """Have a folder's scorecard name the evidence that is there now."""
    card = Scorecard.read(folder / "scorecard.json")
    digest = FileDigest.of(folder / "evidence.parquet")
    named = card.evidence.model_copy(update={"sha256": digest.sha256})
    card.model_copy(update={"evidence": named}).write(folder / "scorecard.json")


class HostileTexts:
    """Another text before each answer, reference and group of a row."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __call__(self, row: EvidenceRow) -> EvidenceRow:
        texts = {
            "prediction": f"{self.text}{row.row.prediction}",
            "references": tuple(f"{self.text}{each}" for each in row.row.references),
        }
        scored = row.row.model_copy(update=texts)
        group = f"{self.text[:300]}{row.group}"
        return row.model_copy(update={"row": scored, "group": group})
