"""Parameters are closed: what does not exist is answered with what was meant."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from core.errors import ParameterError
from pipelines.gates.policy import load_policy
from pipelines.values.params import (
    load_params,
    override,
    parameter_names,
    parse_assignment,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture
def params_file(tmp_path: Path) -> Path:
    return Path(shutil.copyfile(ROOT / "params.yaml", tmp_path / "params.yaml"))


@pytest.mark.parametrize(
    ("typed", "name", "setting"),
    [
        ("lora.r=32", "lora.r", 32),
        ("train.learning_rate=1e-3", "train.learning_rate", 0.001),
        ("data.group_column=null", "data.group_column", None),
        ("data.prompt_column=question", "data.prompt_column", "question"),
        ("score.metrics=[bleu, chrf]", "score.metrics", ["bleu", "chrf"]),
        ("bias.template={name} = {prompt}", "bias.template", None),
    ],
)
def test_an_assignment_is_a_name_and_a_yaml_value(
    typed: str, name: str, setting: Any
) -> None:
    if setting is None and "template" in typed:
        with pytest.raises(ParameterError, match="is not a YAML value"):
            parse_assignment(typed)
    else:
        assert parse_assignment(typed) == (name, setting)


@pytest.mark.parametrize("typed", ["lora.r", "=3", ""])
def test_an_assignment_without_both_sides_is_refused(typed: str) -> None:
    with pytest.raises(ParameterError, match="is not NAME=VALUE"):
        parse_assignment(typed)


def test_an_override_reaches_the_file_and_leaves_the_rest(params_file: Path) -> None:
    before = load_params(params_file)
    after = override(params_file, {"lora.r": 4, "train.max_steps": 16})
    assert after == load_params(params_file)
    assert (after.lora.r, after.train.max_steps) == (4, 16)
    assert (
        after.model_copy(update={"lora": before.lora, "train": before.train}) == before
    )


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("score.seed", -1),
        ("train.seed", 2**32),
        ("score.metrics", []),
        ("bias.favourable_pattern", "["),
        ("bias.template", "{name} asks"),
        ("bias.template", "{prompt}"),
        ("bias.template", "{name} {prompt} {0}"),
        ("bias.template", "{name} {prompt"),
    ],
)
def test_what_a_stage_after_training_could_not_use_is_refused_before(
    params_file: Path, name: str, setting: object
) -> None:
    with pytest.raises(ParameterError, match=f"A parameter does not fit: {name}: "):
        override(params_file, {name: setting})


@pytest.mark.parametrize(
    "typed",
    [
        "lora.r=yes",
        "train.epochs=true",
        "train.max_steps=on",
        "score.seed=no",
        "data.licence=yes",
    ],
)
def test_a_yes_or_a_no_is_no_number(params_file: Path, typed: str) -> None:
    name, setting = parse_assignment(typed)
    with pytest.raises(
        ParameterError,
        match=f"A parameter does not fit: {name}: Input is a yes or a no, where neither is meant",
    ):
        override(params_file, {name: setting})
    assert override(
        params_file, {"base_model.completion_mode": True}
    ).base_model.completion_mode


@pytest.mark.parametrize(
    "edit",
    [
        ("max_quarantine_share: 0.05", "max_quarantine_share: true"),
        ("max_overlap: 0", "max_overlap: no"),
        ("{train: 50,", "{train: yes,"),
        ("smallest_effect: 2.0", "smallest_effect: yes"),
        ("bleu, margin: 1.0", "bleu, margin: on"),
        ("max_output_score_difference: 10.0", "max_output_score_difference: true"),
        ("min_raters: 3", "min_raters: true"),
        ("approvals: 1", "approvals: off"),
    ],
)
def test_a_policy_with_a_yes_or_a_no_for_a_limit_fails_closed(
    tmp_path: Path, edit: tuple[str, str]
) -> None:
    whole = (ROOT / "registry/policies/default.yaml").read_text()
    assert edit[0] in whole
    (tmp_path / "policy.yaml").write_text(whole.replace(*edit, 1))
    with pytest.raises(
        ParameterError, match="is a yes or a no, where neither is meant"
    ):
        load_policy(tmp_path / "policy.yaml")


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [("lora.rank", "lora.r"), ("train.epoch", "train.epochs"), ("lr", "lora.r")],
)
def test_a_parameter_that_does_not_exist_is_answered_with_what_was_meant(
    params_file: Path, wrong: str, meant: str
) -> None:
    before = params_file.read_bytes()
    with pytest.raises(
        ParameterError, match=rf"There is no parameter {wrong}\. Did you mean {meant}\?"
    ):
        override(params_file, {wrong: 1})
    assert params_file.read_bytes() == before


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("lora.r", 0),
        ("lora.r", "many"),
        ("split.dev", 1.0),
        ("train.learning_rate", float("nan")),
        ("train.max_steps", 0),
        ("lora", 3),
    ],
)
def test_a_value_out_of_range_is_refused_before_it_is_written(
    params_file: Path, name: str, setting: Any
) -> None:
    before = params_file.read_bytes()
    with pytest.raises(ParameterError):
        override(params_file, {name: setting})
    assert params_file.read_bytes() == before


@pytest.mark.parametrize(
    ("typed", "most"),
    [
        ("train.epochs=1e300", 10**6),
        ("train.max_steps=10000000000", 10**9),
        ("train.max_tokens=10000000000", 10**9),
        ("generation.max_new_tokens=10000000000", 10**9),
        ("lora.alpha=1e300", 10**6),
        ("score.resamples=10000000", 10**6),
    ],
)
def test_a_number_beyond_any_use_is_refused_with_the_most_there_may_be(
    params_file: Path, typed: str, most: int
) -> None:
    name, setting = parse_assignment(typed)
    with pytest.raises(
        ParameterError, match=f"{name}: Input should be less than or equal to {most}"
    ):
        override(params_file, {name: setting})


@pytest.mark.parametrize("content", [b"\xff", b"- 1", b"lora: [", b""])
def test_a_parameter_file_that_is_none_is_one_line(
    params_file: Path, content: bytes
) -> None:
    params_file.write_bytes(content)
    with pytest.raises(ParameterError, match="git checkout"):
        load_params(params_file)


def test_every_parameter_in_the_file_is_a_field() -> None:
    document = yaml.safe_load((ROOT / "params.yaml").read_text())
    assert load_params(ROOT / "params.yaml")
    assert len(parameter_names(document)) > 40


def test_an_alias_bomb_in_a_policy_is_refused(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x]"] + [
        f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 40)
    ]
    (tmp_path / "policy.yaml").write_text("\n".join(lines))
    with pytest.raises(ParameterError, match="without a policy nothing passes"):
        load_policy(tmp_path / "policy.yaml")


@pytest.mark.parametrize("edit", ["primary: chrf", "alpha: 0.05", "margin: 1.0"])
def test_a_policy_that_lacks_a_line_fails_closed(tmp_path: Path, edit: str) -> None:
    whole = (ROOT / "registry/policies/default.yaml").read_text()
    assert edit in whole
    (tmp_path / "policy.yaml").write_text(whole.replace(edit, "", 1))
    with pytest.raises(ParameterError, match="policy"):
        load_policy(tmp_path / "policy.yaml")


def test_a_day_is_a_text_in_quotes_which_dvc_reads_too(params_file: Path) -> None:
    path = params_file
    name, day = parse_assignment("base_model.template_date=2026-03-01")
    assert override(path, {name: day}).base_model.template_date == "2026-03-01"
    assert load_params(path).base_model.template_date == "2026-03-01"
    path.write_text(path.read_text().replace("'2026-03-01'", "2026-03-01"))
    with pytest.raises(ParameterError, match=r"template_date.* it needs quotes"):
        load_params(path)
    for day in ("tomorrow", "20260101", "2026-02-30", None, 5, ["2026-01-01"]):
        with pytest.raises(ParameterError, match="template_date"):
            override(path, {"base_model.template_date": day})


@pytest.mark.parametrize(
    ("engine", "precision", "said"),
    [
        ("openvino", "bfloat16", "fit: generation: openvino has no bfloat16"),
        ("vllm", "int8", "vllm cannot be given weights that Assay rounded"),
        ("onnx", "float32", "generation.engine"),
    ],
)
def test_an_engine_that_has_not_that_precision_is_refused(
    params_file: Path, engine: str, precision: str, said: str
) -> None:
    asked = {"generation.engine": engine, "generation.precision": precision}
    with pytest.raises(ParameterError, match=said):
        override(params_file, asked)
    # A project that names no engine keeps the keys that it had.
    usual = override(params_file, {"generation.engine": "transformers"})
    assert "engine" not in usual.generation.model_dump()
    in_int8 = {"generation.engine": "openvino", "generation.precision": "int8"}
    assert override(params_file, in_int8).generation.engine == "openvino"


def test_an_adapter_that_is_too_large_for_vllm_is_refused_before_it_is_trained(
    params_file: Path,
) -> None:
    by_vllm = {"generation.engine": "vllm"}
    assert override(params_file, by_vllm | {"lora.r": 512}).lora.r == 512
    with pytest.raises(ParameterError, match="vllm takes adapters of rank 512 at most"):
        override(params_file, {"lora.r": 513})
    assert override(params_file, {"lora.r": 513, "generation.engine": "openvino"})
