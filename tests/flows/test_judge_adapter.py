"""An adapter that plain trl trained outside Assay is judged, registered, promoted and served."""

import shutil
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from pipelines.values.elsewhere import UNCLAIMED, MembershipProbe
from pipelines.values.evidence import Adapter
from registry.ledger.entries import Registered
from registry.ledger.ledger import open_ledger
from tests.support.endpoint_system import Home, endpoint
from tests.support.journey import (
    SETTINGS,
    Checkout,
    CommandResult,
    Journey,
    invoke,
    learnable_rows,
    write_rows,
)
from tests.support.promoted import MODEL, QUESTION, WAIVED, waive
from tests.support.tiny import make_tiny_adapter, tiny_manifest
from tests.support.trl_outside import train_outside
from tests.support.waiting import SECONDS_AT_MOST


def judge(
    site: Checkout, adapter: Path, judged: Journey, *more: str | Path
) -> CommandResult:
    # Of training nothing is said: nothing is trained.
    settings = [
        word
        for setting in SETTINGS
        if not setting.startswith(("lora", "train"))
        for word in ("--set", setting)
    ]
    order = ["judge", "--adapter", adapter, "--base", judged.base, *more]
    return site.assay(*order, "--data", judged.data, "--json", *settings)


@pytest.mark.ci
def test_an_adapter_of_plain_trl_is_judged_registered_promoted_and_served(
    seeded: Checkout, judged: Journey, tmp_path: Path
) -> None:
    outside = train_outside(
        judged.base, learnable_rows(), tmp_path / "outside", tmp_path / "scratch"
    )
    # trl leaves a pickle beside the adapter, which is not even opened.
    assert (outside / "training_args.bin").is_file()
    run = judge(seeded, outside, judged)
    assert run.code == 0, run.out + run.err
    assert UNCLAIMED in run.out

    (version,) = seeded.versions(MODEL)
    assert version.tags["assay.trained"] == "elsewhere"
    assert f"- {UNCLAIMED}" in version.description
    package = seeded.store.fetch(
        seeded.store.get_version(MODEL, "1"), tmp_path / "package"
    )
    adapter = Adapter.read(package / "adapter.json")
    assert adapter.elsewhere is not None
    assert adapter.elsewhere.stated_base == str(judged.base)
    # It saw all rows, which the probe does not take for held-out rows that it did not see.
    assert MembershipProbe.read(package / "membership.json").leans_to == "neither"
    assert not list(package.rglob("*.bin"))
    bodies = [entry.body for entry in open_ledger(seeded.home).entries()]
    (registered,) = [body for body in bodies if isinstance(body, Registered)]
    assert registered.adapter_sha256 == adapter.sha256

    again = judge(seeded, outside, judged)
    assert again.last["unchanged"] is True
    assert len(seeded.versions(MODEL)) == 1

    for rule in WAIVED:
        waive(seeded, rule)
    with endpoint(Home(seeded.home)) as running:
        promotion = invoke(
            seeded, "promote", "1", "--model", MODEL, "--reason", "it is better"
        )
        assert promotion.code == 0, promotion.out + promotion.err
        answer = httpx.post(
            f"{running.url}/v1/chat/completions",
            json={**QUESTION, "max_tokens": 10},
            timeout=SECONDS_AT_MOST,
        )
    assert answer.json()["choices"][0]["message"]["content"] == "re(d)og"


@pytest.mark.slow
def test_what_was_trained_elsewhere_is_confirmed_on_a_sealed_block_as_well(
    seeded: Checkout, judged: Journey, tmp_path: Path
) -> None:
    policy = seeded.root / "registry/policies/default.yaml"
    text = policy.read_text(encoding="utf-8")
    policy.write_text(
        text.replace("reserve: none", "reserve: sealed"), encoding="utf-8"
    )
    rows = learnable_rows(480)
    outside = train_outside(
        judged.base, rows, tmp_path / "outside", tmp_path / "scratch"
    )
    data = write_rows(tmp_path / "letters.jsonl", rows)
    run = judge(seeded, outside, replace(judged, data=data))
    assert run.code == 0, run.out + run.err
    assert "Confirmation 1 of this year" in run.out
    kinds = [entry.body.kind for entry in open_ledger(seeded.home).entries()]
    told = [kind for kind in kinds if kind != "key_added"]
    assert told == ["opened", "block_opened", "block_closed", "registered"]


@pytest.mark.slow
def test_an_adapter_that_answers_noise_is_rejected_and_its_run_says_where_it_was_trained(
    seeded: Checkout, judged: Journey, tmp_path: Path
) -> None:
    base = tiny_manifest(judged.base, tmp_path / "home")
    make_tiny_adapter(judged.base, base, tmp_path / "noise")
    run = judge(seeded, tmp_path / "noise", judged)
    assert run.code == 3, run.out + run.err
    assert seeded.versions(MODEL) == []
    (recorded,) = seeded.runs()
    assert recorded.data.tags["assay.kind"] == "judge"
    assert recorded.data.tags["assay.trained"] == "elsewhere"


def test_what_is_no_adapter_is_refused_in_a_sentence_before_anything_begins(
    checkout: Checkout, tmp_path: Path, tiny_base: Path
) -> None:
    folder = tmp_path / "pickled"
    folder.mkdir()
    shutil.copyfile(tiny_base / "config.json", folder / "adapter_config.json")
    (folder / "adapter_model.bin").write_bytes(b"\x80\x02.")
    run = invoke(checkout, "judge", "--adapter", folder, "--base", tiny_base)
    assert run.code == 1
    assert "adapter_model.bin is a pickle" in run.err
    assert checkout.runs() == []
