"""The page on the ledger's format: its script verifies exports, and its tables name every field."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from registry.ledger.audit import export
from registry.ledger.entries import Body, Entry
from registry.ledger.ledger import open_ledger
from registry.ledger.rotation import rotate
from tests.support.ledgers import append_released, frozen

PAGE = Path(__file__).parents[2] / "docs/reference/ledger-format.md"
BEFORE = Path(__file__).parent / "data/export_before_rfc8785.jsonl"
Lines = list[dict[str, Any]]


@pytest.fixture
def script(tmp_path: Path) -> Path:
    text = PAGE.read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    path = tmp_path / "verify_export.py"
    path.write_text(code, encoding="utf-8")
    return path


@pytest.fixture
def lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lines:
    """An export with a release, a reason, and an entry of a second key."""
    monkeypatch.delenv("ASSAY_LEDGER_URL", raising=False)
    ledger = open_ledger(tmp_path / "home")
    append_released(ledger)
    ledger.append(
        frozen(), rotate(ledger, tmp_path / "home", "Zoë", "it \u2028 leaked")
    )
    export(ledger, tmp_path / "export.jsonl", with_texts=True)
    with (tmp_path / "export.jsonl").open(encoding="utf-8", newline="\n") as texts:
        return [json.loads(text) for text in texts]


def verified(script: Path, export: Path) -> subprocess.CompletedProcess[str]:
    """Run in a folder where no module of ours can be imported."""
    command = [sys.executable, "-I", str(script), str(export)]
    return subprocess.run(
        command, cwd=script.parent, capture_output=True, text=True, check=False
    )


def rewritten(script: Path, lines: Lines) -> subprocess.CompletedProcess[str]:
    path = script.with_name("changed.jsonl")
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return verified(script, path)


def test_the_script_verifies_an_export_and_imports_nothing_of_ours(
    script: Path, lines: Lines
) -> None:
    result = verified(script, script.with_name("export.jsonl"))
    assert result.returncode == 0, result.stderr
    head = lines[-1]["head"]
    assert f"whole up to entry 8, {head['hash']}" in result.stdout
    imported = re.findall(r"^(?:import|from) (.+)$", script.read_text(), re.MULTILINE)
    assert [line.split(" import")[0] for line in imported] == [
        "hashlib, json, sys",
        "rfc8785",
        "cryptography.hazmat.primitives.asymmetric.ed25519",
    ]


def test_the_script_verifies_an_export_from_before_rfc_8785(script: Path) -> None:
    result = verified(script, BEFORE)
    assert result.returncode == 0, result.stderr
    assert "whole up to entry 23" in result.stdout


def edited(lines: Lines) -> Lines:
    lines[1]["entry"]["body"]["version"] = "2"
    return lines


def with_another_field(lines: Lines) -> Lines:
    lines[1]["entry"]["note"] = "all is well"
    return lines


def exchanged(lines: Lines) -> Lines:
    return [lines[0], lines[2], lines[1], *lines[3:]]


def renumbered(lines: Lines) -> Lines:
    lines[1]["entry"]["generation"], lines[2]["entry"]["generation"] = 3, 2
    return exchanged(lines)


def without_the_fourth(lines: Lines) -> Lines:
    return [*lines[:3], *lines[4:]]


def without_head(lines: Lines) -> Lines:
    return lines[:-1]


def cut_before_the_head(lines: Lines) -> Lines:
    return [*lines[:5], lines[-1]]


def beheaded(lines: Lines) -> Lines:
    return lines[1:]


def of_another_ledger(lines: Lines) -> Lines:
    lines[-1]["head"]["ledger_id"] = "0" * 32
    return lines


def with_another_signature(lines: Lines) -> Lines:
    lines[2]["entry"]["signature"] = lines[3]["entry"]["signature"]
    return lines


def signed_by_a_key_that_is_not_yet_added(lines: Lines) -> Lines:
    lines[2]["entry"]["key_id"] = lines[7]["entry"]["key_id"]
    return lines


def with_another_reason(lines: Lines) -> Lines:
    return [line | {"text": "nobody"} if "text" in line else line for line in lines]


def emptied(_: Lines) -> Lines:
    return []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (edited, "line 2: it was edited"),
        (with_another_field, "line 2: not the fields of an entry"),
        (exchanged, "line 2: an entry is missing or moved"),
        (renumbered, "line 2: it does not follow"),
        (without_the_fourth, "line 4: an entry is missing or moved"),
        (without_head, "the end was cut off"),
        (cut_before_the_head, "line 6: cut"),
        (beheaded, "ledger_id"),
        (of_another_ledger, "cut"),
        (with_another_signature, "InvalidSignature"),
        (signed_by_a_key_that_is_not_yet_added, "line 3: it was edited"),
        (with_another_reason, "the reason was edited"),
        (emptied, "the end was cut off"),
    ],
)
def test_the_script_fails_on_an_export_that_was_changed(
    script: Path, lines: Lines, change: Callable[[Lines], Lines], words: str
) -> None:
    assert rewritten(script, list(lines)).returncode == 0
    result = rewritten(script, change(lines))
    assert result.returncode == 1
    assert words in result.stderr


def test_the_page_names_every_field_of_an_entry() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (?!`)", PAGE.read_text("utf-8"), re.MULTILINE)
    assert rows == list(Entry.model_fields)


def test_the_page_names_every_kind_of_entry_with_its_fields() -> None:
    text = PAGE.read_text(encoding="utf-8")
    rows = dict(
        re.findall(r"^\| `(\w+)` \| ((?:`\w+`(?:, )?)+) \|$", text, re.MULTILINE)
    )
    models = TypeAdapter(Body).json_schema()["$defs"].values()
    fields = {
        model["properties"]["kind"]["const"]: set(model["properties"]) - {"kind"}
        for model in models
        if "kind" in model["properties"]
    }
    assert {kind: set(re.findall(r"\w+", row)) for kind, row in rows.items()} == fields
