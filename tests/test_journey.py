"""One whole path.

Own rows and an own base model to a judged, registered adapter and an answer over HTTP.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from core.ready import parse_ready
from pipelines.values.conformance import Conformance
from registry.mlflow.recorded import VERDICT
from registry.release.package_signature import package_digests
from tests.support.journey import ANSWERS, Journey, copy_checkout, invoke, run_arguments
from tests.support.openai_client import openai_client
from tests.support.waiting import SECONDS_AT_MOST

MODEL = "letters-tiny"


@pytest.fixture(scope="module")
def evidence(judged: Journey, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run's artifacts, downloaded."""
    return judged.checkout.store.runs.fetch_evidence(
        judged.result.last["mlflow_run"], tmp_path_factory.mktemp("evidence") / "run"
    )


def test_a_run_on_own_rows_passes_and_says_so_in_one_machine_readable_line(
    judged: Journey,
) -> None:
    assert judged.result.code == 0, judged.result.out + judged.result.err
    said = judged.result.last
    assert (said["verdict"], said["gate"], said["version"], said["unchanged"]) == (
        "passed",
        "screen",
        "1",
        False,
    )
    assert {system["system"] for system in said["scorecard"]["systems"]} == {
        "base",
        "few_shot",
        "adapter",
    }
    assert any(
        "chrf against few_shot: better by" in reason for reason in said["reasons"]
    )


def test_each_stage_is_told_in_a_line(judged: Journey) -> None:
    told = [
        line.split()[0]
        for line in judged.result.out.splitlines()
        if line.startswith("  ") and line[2:3].isalpha()
    ]
    assert told[:3] == ["collect", "split", "validate"]
    assert {"fine_tune", "generate", "score", "screen"} <= set(told)


def test_what_was_seen_of_the_base_is_told_once_and_kept_with_the_run(
    judged: Journey, evidence: Path
) -> None:
    kept = Conformance.read(evidence / "base_check.json")
    assert kept.asked > 0
    for line in kept.text.splitlines():
        assert judged.result.out.count(line) == 1, line


@pytest.mark.ci
def test_what_was_seen_of_the_base_is_told_where_the_cache_answers(
    judged: Journey, tmp_path: Path
) -> None:
    checkout = copy_checkout(judged.checkout, tmp_path / "assay")
    arguments = run_arguments(judged.data, judged.base, "--model", "another")
    again = checkout.assay(*arguments)
    assert again.code == 0, again.out + again.err
    told = again.out.splitlines()
    (stage,) = [line for line in told if line.startswith("  base_model ")]
    assert " cached " in stage
    assert sum("answers as alone" in line for line in told) == 1


def test_the_version_is_a_challenger_with_verdict_table_and_lineage(
    judged: Journey,
) -> None:
    (version,) = judged.checkout.versions()
    assert (
        judged.checkout.store.get_version(MODEL, "@challenger").version
        == str(version.version)
        == "1"
    )
    assert version.tags[VERDICT] == "passed"
    assert {
        "assay.data_md5",
        "assay.git_commit",
        "assay.params_sha256",
        "assay.policy_sha256",
        "assay.base_digest",
    } <= set(version.tags)
    assert "| metric | base | few_shot | adapter |" in version.description
    assert f"git `{version.tags['assay.git_commit']}`" in version.description


def test_the_run_carries_the_verdict_the_parameters_and_the_loss_curve(
    judged: Journey,
) -> None:
    (run,) = judged.checkout.runs()
    assert run.data.tags[VERDICT] == "passed"
    assert run.info.status == "FINISHED"
    assert run.data.params["lora.r"] == "16"
    assert "train.eval_loss" in run.data.metrics


def test_the_registered_package_holds_what_its_digests_say(
    judged: Journey, tmp_path: Path
) -> None:
    store = judged.checkout.store
    package = store.fetch(store.get_version(MODEL, "1"), tmp_path / "package")
    digests = package_digests(package)
    digests.pop("package.json")
    assert json.loads((package / "package.json").read_text(encoding="utf-8")) == digests
    assert {
        "adapter/adapter_model.safetensors",
        "tokenizer/tokenizer.json",
        "chat_template.jinja",
        "MODEL_CARD.md",
        "verdict.json",
    } <= set(digests)


def test_the_runs_own_ref_names_the_data_and_the_model_files(judged: Journey) -> None:
    git = judged.checkout.git
    (ref,) = git(
        "for-each-ref", "--format=%(refname)", "refs/assay/runs/*/done"
    ).split()
    assert "data/fine_tune" in git("show", f"{ref}:dvc.lock")
    assert "path: rows.jsonl" in git("show", f"{ref}:data/raw/rows.jsonl.dvc")
    kept = git("ls-tree", "-r", "--name-only", ref).split()
    assert "data/raw/rows.jsonl" not in kept, (
        "own rows belong into DVC's cache, not into git"
    )
    assert not [name for name in kept if name.endswith((".safetensors", ".parquet"))]


def test_the_same_run_again_finds_its_version_and_trains_nothing(
    judged: Journey, tmp_path: Path
) -> None:
    checkout = copy_checkout(judged.checkout, tmp_path / "assay")
    again = checkout.assay(*run_arguments(judged.data, judged.base))
    assert again.code == 0, again.out + again.err
    assert (again.last["unchanged"], again.last["version"]) == (True, "1")
    assert "fine_tune" not in again.out.split('{"verdict"')[0]
    assert len(checkout.versions()) == 1


def test_the_version_answers_over_http_to_the_openai_client(judged: Journey) -> None:
    with serving(judged) as url:
        client = openai_client(url)
        assert MODEL in {model.id for model in client.models.list()}
        answer = client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "12 a"}]
        )
    assert ANSWERS["a"] in str(answer.choices[0].message.content)


def test_the_verdict_follows_from_the_stored_evidence(
    judged: Journey, evidence: Path
) -> None:
    again = invoke(judged.checkout, "gate", evidence, "--json")
    assert again.code == 0, again.out
    assert again.last["verdict"] == "passed"
    assert again.last["differences"] == []


def test_an_edited_score_is_found(
    judged: Journey, evidence: Path, tmp_path: Path
) -> None:
    edited = shutil.copytree(evidence, tmp_path / "edited")
    card = json.loads((edited / "scorecard.json").read_text(encoding="utf-8"))
    card["systems"][0]["metrics"][0]["interval"]["high"] += 1
    (edited / "scorecard.json").write_text(json.dumps(card), encoding="utf-8")
    again = invoke(judged.checkout, "gate", edited)
    assert again.code == 1
    assert "DIFFERS" in again.out


def test_edited_evidence_is_refused(
    judged: Journey, evidence: Path, tmp_path: Path
) -> None:
    edited = shutil.copytree(evidence, tmp_path / "edited")
    with (edited / "evidence.parquet").open("r+b") as stream:
        stream.seek(100)
        stream.write(b"\0\1\2\3")
    again = invoke(judged.checkout, "gate", edited)
    assert (again.code, again.out) == (1, "")
    assert "is not the evidence that the scorecard names" in again.err


@contextmanager
def serving(judged: Journey) -> Iterator[str]:
    """The address of `assay preview`, for as long as the context lasts."""
    with judged.checkout.start("preview", "--model", MODEL, "--port", "0") as process:
        assert process.stdout
        try:
            line = process.stdout.readline()
            url = parse_ready(line)
            assert url, line + process.communicate()[1]
            yield url
        finally:
            process.terminate()
            process.communicate(timeout=SECONDS_AT_MOST)
