"""Scores equal those of other people's programs on the same rows."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from core.files import read_jsonl, write_text
from pipelines.metrics import Metric, ScoredRow, metric_named
from pipelines.models.answers import Identity, Places, answer
from pipelines.models.language_model import load_language_model
from pipelines.values.dataset import Message, Prompt
from pipelines.values.evidence import TokenLoss
from pipelines.values.metric_settings import BleuSettings, MetricSettings, Tokenizer
from pipelines.values.params import GenerationParams
from tests.support.harness import make_harness
from tests.support.tiny import make_tiny_base, tiny_manifest

# Nothing of a program's own home or network takes part.
OFFLINE = {"HF_HUB_OFFLINE": "1", "PATH": "/usr/bin:/bin"}
# A prompt ends in a control token: lm-evaluation-harness moves white space at the end of a context
# to the text that it scores.
TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '<|endoftext|>' + message['content'] + '<|im_end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant<|endoftext|>' }}{% endif %}"
)
COMMANDS = [
    ("tar -xzf a.tgz now", "tar -xzvf a.tgz", "tar xf a.tgz now"),
    ("ls -l | grep x", "ls -la | grep x", "ls -l | grep 'x'"),
    ("echo $1,000 — «é»", "echo $1,000 — «è»", "printf 1,000"),
    ("the quick, brown fox", "the quick brown fox.", "a quick, brown fox"),
]
CHINESE = [
    ("旧杯子放在桌子上面。", "旧杯子放在桌子上面。", "旧的杯子在桌上。"),
    ("湿漉漉的狐狸睡了", "湿漉漉的狐狸睡着了", "狐狸睡着了, ok"),
    ("太阳升起来了 3.5", "巨大的太阳升起来了 3.5", "太阳升起来了"),
]


def settings_with(tokenize: Tokenizer) -> MetricSettings:
    return MetricSettings(bleu=BleuSettings(tokenize=tokenize))


def corpus(metric: Metric, rows: Sequence[tuple[str, ...]]) -> float:
    """The corpus score of rows of an answer and its references."""
    statistics = [
        metric.row_statistics(
            ScoredRow(prompt_id="p", prediction=answer, references=references)
        )
        for answer, *references in rows
    ]
    return float(metric.corpus(np.array(statistics).sum(axis=0)))


def command_line_scores(
    rows: Sequence[tuple[str, ...]], tokenize: str, folder: Path
) -> dict[str, float]:
    """BLEU and chrF as `python -m sacrebleu` prints them, to twelve digits."""
    streams = list(zip(*rows, strict=True))
    paths = []
    for number, texts in enumerate(streams):
        paths.append(folder / f"{number}.txt")
        write_text(paths[-1], "\n".join(texts) + "\n")
    answers, *references = [str(path) for path in paths]
    command = [sys.executable, "-m", "sacrebleu", *references, "--input", answers]
    options = ["--metrics", "bleu", "chrf", "--tokenize", tokenize, "--force"]
    printed = subprocess.run(
        [*command, *options, "--format", "json", "--width", "12"],
        capture_output=True,
        check=True,
        text=True,
        env=OFFLINE,
    )
    return {score["name"]: score["score"] for score in json.loads(printed.stdout)}


@pytest.mark.parametrize(
    ("rows", "tokenize", "references"),
    [
        (COMMANDS, "13a", 2),
        (COMMANDS, "intl", 1),
        (CHINESE, "zh", 2),
        (CHINESE, "char", 1),
    ],
)
def test_bleu_and_chrf_are_those_of_sacrebleus_command_line(
    rows: list[tuple[str, ...]], tokenize: Tokenizer, references: int, tmp_path: Path
) -> None:
    given = [row[: 1 + references] for row in rows]
    theirs = command_line_scores(given, tokenize, tmp_path)
    settings = settings_with(tokenize)
    ours = {
        "BLEU": corpus(metric_named("bleu", settings), given),
        "chrF2": corpus(metric_named("chrf", settings), given),
    }
    assert ours == pytest.approx(theirs, abs=1e-9)
    # A score at an end of the scale would be equal for any tokenizer.
    assert all(0 < score < 100 for score in theirs.values())


SCRIPT = """
import json, sys
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
folder, asked, into = sys.argv[1:]
model = HFLM(pretrained=folder, dtype="float32", device="cpu", batch_size=3)
pairs = json.load(open(asked))
requests = [
    Instance("loglikelihood", {}, tuple(pair), index) for index, pair in enumerate(pairs)
]
scores = [score for score, _ in model.loglikelihood(requests)]
json.dump(scores, open(into, "w"))
"""


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_harness(tmp_path_factory.mktemp("harness"))


def rendered(prompt: Prompt) -> str:
    """The prompt as the template writes it."""
    question = f"<|im_start|>user<|endoftext|>{prompt.messages[0].content}<|im_end|>"
    return f"{question}<|im_start|>assistant<|endoftext|>"


@pytest.mark.slow
def test_perplexity_is_that_of_lm_evaluation_harness(
    harness: Path, tmp_path: Path
) -> None:
    folder = make_tiny_base(tmp_path / "base")
    base = tiny_manifest(folder, tmp_path)
    language = load_language_model(base, folder, TEMPLATE, "float32")
    prompts = [
        Prompt(
            id=f"prompt-{number}",
            messages=(Message(role="user", content=f"What is {references[0]}?"),),
            references=references,
            group="g",
        )
        for number, (_, *references) in enumerate([*COMMANDS, *CHINESE])
    ]
    params = GenerationParams(
        max_new_tokens=1, batch_size=4, precision="float32", seed=0
    )
    identity = Identity(system="base", base=base)
    answer(identity, language, prompts, params, Places(tmp_path))
    records = read_jsonl(tmp_path / "base.losses.jsonl")
    ours = [TokenLoss.model_validate(record).nats for record in records]
    pairs = [
        (rendered(prompt), f"{reference}<|im_end|>")
        for prompt in prompts
        for reference in prompt.references
    ]
    asked, answered = tmp_path / "asked.json", tmp_path / "answered.json"
    write_text(asked, json.dumps(pairs))
    subprocess.run(
        [harness, "-c", SCRIPT, folder, asked, answered],
        check=True,
        env={**OFFLINE, "HOME": str(tmp_path)},
        timeout=900,
    )
    theirs = [-score for score in json.loads(answered.read_text(encoding="utf-8"))]
    sys.stdout.write(
        "".join(
            f"{own:12.6f} {other:12.6f} nats of {text!r}\n"
            for own, other, (_, text) in zip(ours, theirs, pairs, strict=True)
        )
    )
    assert len(ours) == len(pairs)
    assert ours == pytest.approx(theirs, abs=1e-4, rel=0)
