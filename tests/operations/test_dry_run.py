"""`assay run --dry-run`: what a run would meet and take, before hours are spent on it."""

import json
import re
from pathlib import Path

import pytest

from tests.support.journey import (
    Checkout,
    invoke,
    learnable_rows,
    make_checkout,
    run_arguments,
    write_rows,
)


@pytest.fixture(scope="module")
def untouched(
    cloned: Path, empty_mlflow: Path, tmp_path_factory: pytest.TempPathFactory
) -> Checkout:
    return make_checkout(tmp_path_factory.mktemp("dry") / "assay", cloned, empty_mlflow)


def test_rows_that_admit_would_take_are_estimated_and_nothing_is_trained(
    untouched: Checkout, tiny_base: Path, tmp_path: Path
) -> None:
    data = write_rows(tmp_path / "letters.jsonl", learnable_rows())
    done = invoke(untouched, *run_arguments(data, tiny_base, "--dry-run"))
    assert done.code == 0, done.out + done.err
    told = done.last
    assert (told["admission"], told["reasons"], sum(told["rows"].values())) == (
        "passed",
        [],
        240,
    )
    assert told["steps"] == 160
    assert (
        min(
            told["training_seconds"],
            told["evaluation_seconds"],
            told["memory_bytes"],
            told["disk_bytes"],
        )
        > 0
    )
    assert told["clusters"] > 1
    assert told["smallest_effect_in_standard_deviations"] > 0
    assert told["inapplicable"] == []
    assert untouched.runs() == []


def test_rows_that_admit_would_refuse_are_refused_now_with_every_reason(
    untouched: Checkout, tiny_base: Path, tmp_path: Path
) -> None:
    data = write_rows(tmp_path / "few.jsonl", learnable_rows(20))
    arguments = run_arguments(data, tiny_base, "--dry-run")
    done = invoke(untouched, *arguments)
    assert done.code == 3, done.out + done.err
    assert any(
        reason.startswith("too few rows: held_out has ")
        for reason in done.last["reasons"]
    )
    in_words = invoke(untouched, *(word for word in arguments if word != "--json"))
    assert in_words.code == 3
    assert (
        "admit       would reject these rows\n            too few rows" in in_words.out
    )


def test_a_metric_that_will_judge_nothing_is_named_before_anything_is_trained(
    untouched: Checkout, tiny_base: Path, tmp_path: Path
) -> None:
    short = [{**row, "completion": "up down"} for row in learnable_rows(20)]
    data = write_rows(tmp_path / "short.jsonl", short)
    arguments = run_arguments(data, tiny_base, "--dry-run")
    words = [word for word in arguments if word != "--json"]
    told = invoke(untouched, *words).out
    assert "metrics     bleu does not apply: " in told
    assert "references with fewer than 4 tokens. Set score.bleu.effective_order" in told


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        (
            "train.max_tokens=8",
            "tokens, over the 8 that fit. Shorten it, or raise train.max_tokens",
        ),
        (
            "generation.max_new_tokens=100000",
            "Shorten it, or lower generation.max_new_tokens.",
        ),
    ],
)
def test_rows_that_do_not_fit_are_named_before_anything_is_trained(
    untouched: Checkout, tiny_base: Path, tmp_path: Path, setting: str, said: str
) -> None:
    data = write_rows(tmp_path / "letters.jsonl", learnable_rows())
    done = invoke(
        untouched, *run_arguments(data, tiny_base, "--set", setting, "--dry-run")
    )
    assert done.code == 1
    assert said in done.err


@pytest.mark.parametrize(
    "rows",
    [
        [],
        # Every row is set aside, at collect and at validate.
        [{"prompt": "p", "completion": 7}] * 30,
        [{"prompt": f"p{number}", "completion": ""} for number in range(30)],
        # It is in one split, so that the others have none.
        [{"prompt": "p", "completion": "c"}],
    ],
    ids=["no row", "no text", "no answer", "one row"],
)
def test_a_dry_run_on_no_rows_invents_no_time(
    untouched: Checkout,
    tiny_base: Path,
    tmp_path: Path,
    rows: list[dict[str, object]],
) -> None:
    data = tmp_path / "none.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = run_arguments(data, tiny_base, "--dry-run")
    done = invoke(untouched, *arguments)
    assert done.code == 3, done.out + done.err
    told = done.last
    has_train = told["rows"]["train"] > 0
    assert (told["training_seconds"] is not None) == has_train
    assert told["evaluation_seconds"] is None
    in_words = invoke(untouched, *(word for word in arguments if word != "--json"))
    (line,) = [line for line in in_words.out.splitlines() if line.startswith("time ")]
    if has_train:
        assert "with nothing to answer and score" in line
    else:
        assert line.startswith("time        not known: the train split is empty")
        assert " min" not in line


def test_a_row_that_the_template_refuses_is_named(
    untouched: Checkout, tiny_base: Path, tmp_path: Path
) -> None:
    turns = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "What now?"},
        {"role": "assistant", "content": "wait"},
    ]
    records = [
        {"messages": turns[1:] if number else turns, "group": f"g{number}"}
        for number in range(3)
    ]
    data = tmp_path / "letters.jsonl"
    lines = [*map(json.dumps, [*records, *learnable_rows()])]
    data.write_text("\n".join(lines))
    template = tmp_path / "strict.jinja"
    usual = (tiny_base / "chat_template.jinja").read_text()
    template.write_text(
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system here') }}"
        "{% endif %}" + usual
    )
    done = invoke(
        untouched,
        *run_arguments(data, tiny_base, "--dry-run", "--chat-template", template),
    )
    assert done.code == 1, done.out
    # Libraries may log beside it, where other tests have set that up.
    (line,) = [line for line in done.err.splitlines() if line.startswith("assay:")]
    assert re.search(
        r"Row 1 \(\w+\) of (train|dev|held_out): "
        r"The chat template refuses a conversation of system, user \(no system here\)",
        line,
    )


def test_how_rows_were_read_is_said_before_anything_is_trained(
    untouched: Checkout, tiny_base: Path, tmp_path: Path
) -> None:
    records = [
        {
            "instruction": "Say it again.",
            "input": row["prompt"],
            "output": row["completion"],
        }
        for row in learnable_rows()
    ]
    data = write_rows(tmp_path / "alpaca.jsonl", records)
    done = invoke(untouched, *run_arguments(data, tiny_base, "--dry-run"))
    assert done.code == 0, done.out + done.err
    assert (
        "read as Alpaca: prompt = instruction + input, completion = output" in done.out
    )
    assert sum(done.last["rows"].values()) == 240


def test_a_sensitive_feature_that_is_a_measure_is_one_error(
    untouched: Checkout, tiny_base: Path, tmp_path: Path
) -> None:
    records = [
        {**row, "age": str(18 + number / 4)}
        for number, row in enumerate(learnable_rows())
    ]
    data = write_rows(tmp_path / "ages.jsonl", records)
    setting = "data.sensitive_feature=age"
    done = invoke(
        untouched, *run_arguments(data, tiny_base, "--set", setting, "--dry-run")
    )
    assert done.code == 1
    (line,) = done.err.strip().splitlines()
    assert line == (
        "assay: data.sensitive_feature age is a number with 240 distinct values in 240 rows, "
        "such as 18.25: bin it into groups, such as 18-34, before the run."
    )
