"""`assay base check` shows what is made of a base model, or refuses it in one line."""

import json
import shutil
from pathlib import Path

from tests.support.commands import assay_in


def test_a_base_is_shown_with_its_prompt_ends_and_batches(
    tiny: Path, tmp_path: Path
) -> None:
    result = assay_in(tmp_path / "home", "base", "check", str(tiny))
    assert result.exit_code == 0, result.output
    assert "<|im_start|>user⏎" in result.stdout
    assert "<|im_end|>; the first one is the template's" in result.stdout
    assert "all 12 answers as alone" in result.stdout


def test_rows_of_ones_own_are_asked_and_shown(tiny: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "Which fox is it?", "completion": "the red one"}\n')
    result = assay_in(
        tmp_path / "home", "base", "check", str(tiny), "--data", str(rows), "--json"
    )
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert "Which fox is it?" in found["example"]
    assert "the red one" in found["example"]
    assert found["asked"] == 1


def test_a_base_that_cannot_be_used_is_one_line(tiny: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny, tmp_path / "own"))
    (folder / "chat_template.jinja").write_text(
        "{% for m in messages %}{{ m.content }}|{% endfor %}"
        "{% if add_generation_prompt %}<think>{% endif %}"
    )
    result = assay_in(tmp_path / "home", "base", "check", str(folder))
    assert result.exit_code == 1
    assert "opens a thought in front of an answer" in result.stderr
