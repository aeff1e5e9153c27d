"""A gate's answer for CI: what JUnit's readers show, and what a pull request says."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from core.errors import ParameterError
from operations.gate_report.junit import to_junit
from operations.gate_report.markdown import LONGEST_TEXT, plain, to_markdown
from operations.gate_report.report import GateReport
from operations.model_address import ModelAddress, parse_model_address
from pipelines.values.verdict import Finding
from tests.support.commands import assay_in

SUITE = {
    "name": ".+",
    "tests": r"\d+",
    "failures": r"\d+",
    "errors": r"\d+",
    "skipped": "0",
    "time": "0",
    "timestamp": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d",
    "hostname": r"\S+",
    "id": "0",
    "package": r"\S+",
}
"""What the schemas of Ant's JUnit task and of Jenkins both take."""
CASE = {"name": ".+", "classname": r"assay\.\w+", "time": "0"}
HOSTILE = (
    "]]> <script>alert(1)</script> & \"q\" 'q' | `code` [a](http://b.c) @octocat #12 "
    "**b** _i_ ~~s~~ $x$ www.evil.test\n# title\x00\x1b[31m\x08\ud800\ufffe =cmd|' /C calc'!A0"
)


def report(*findings: Finding, differences: tuple[str, ...] = ()) -> GateReport:
    return GateReport(
        gate="judge",
        subject="Version 3 of support",
        sentence="Version 3 of support is not yet fit for release.",
        verdict="undecided",
        findings=findings,
        differences=differences,
        identities={"package": "a" * 64},
    )


def finding(rule: str, outcome: str, text: str = "1 of 2") -> Finding:
    return Finding.model_validate({"rule": rule, "outcome": outcome, "text": text})


MIXED = (
    finding("screen", "passed"),
    finding("approvals", "undecided"),
    finding("revoked", "rejected"),
)


def suite_of(text: str) -> ET.Element:
    """The only suite, once the document is what every reader of JUnit takes."""
    root = ET.fromstring(text)  # noqa: S314 - it was written here
    assert (root.tag, root.attrib) == ("testsuites", {})
    [suite] = root
    check_attributes(suite, SUITE)
    tags = [child.tag for child in suite]
    cases = tags.count("testcase")
    expected = ["properties", *["testcase"] * cases, "system-out", "system-err"]
    assert tags == expected
    names = set()
    for case in suite.iter("testcase"):
        check_attributes(case, CASE)
        assert len(case) <= 1, "one answer to each rule"
        names.add(case.get("name"))
        for child in case:
            assert child.tag in {"failure", "error"}, "nothing that CI shows as green"
            assert set(child.attrib) == {"message", "type"}
    assert len(names) == cases == int(suite.attrib["tests"])
    for kind in ("failure", "error"):
        assert len(list(suite.iter(kind))) == int(suite.attrib[f"{kind}s"])
    return suite


def check_attributes(element: ET.Element, forms: dict[str, str]) -> None:
    assert set(element.attrib) == set(forms)
    for name, form in forms.items():
        assert re.fullmatch(form, element.attrib[name]), (name, element.attrib[name])


def kinds(suite: ET.Element) -> Iterator[tuple[str, str | None]]:
    for case in suite.iter("testcase"):
        yield case.attrib["name"], case[0].get("type") if len(case) else None


def test_each_rule_is_a_case_and_undecided_is_as_red_as_rejected() -> None:
    suite = suite_of(to_junit(report(*MIXED)))
    expected = {"screen": None, "approvals": "undecided", "revoked": "rejected"}
    assert dict(kinds(suite)) == expected
    assert suite.find("properties/property[@value]") is not None


def test_two_findings_of_one_rule_are_two_cases() -> None:
    twice = (finding("guardrail", "passed"), finding("guardrail", "rejected"))
    suite = suite_of(to_junit(report(*twice)))
    assert dict(kinds(suite)) == {"guardrail": None, "guardrail (2)": "rejected"}


def test_stored_files_that_differ_are_an_error_whatever_the_verdict() -> None:
    found = report(finding("a", "passed"), differences=("x: 1 stored, 2 recomputed",))
    assert dict(kinds(suite_of(to_junit(found)))) == {
        "a": None,
        "stored files": "differs",
    }
    assert to_markdown(found).startswith("### ❌")


def test_what_xml_cannot_hold_is_spelt_out_and_markup_stays_text() -> None:
    hostile = finding("a", "undecided", HOSTILE)
    text = to_junit(report(hostile, differences=(HOSTILE,)))
    [failure] = suite_of(text).iter("failure")
    message = failure.attrib["message"]
    assert "]]> <script>alert(1)</script> & \"q\" 'q'" in message
    assert r"\u0000\u001b[31m\u0008\ud800\ufffe =cmd|" in message
    assert "]]>" not in text
    text.encode()


def test_a_summary_says_the_sentence_first_and_then_what_must_change() -> None:
    lines = to_markdown(report(*MIXED)).splitlines()
    assert lines[0] == "### ❔ Version 3 of support is not yet fit for release."
    marks = [
        line.split()[1] for line in lines if line.startswith(("| ❌", "| ❔", "| ✅"))
    ]
    assert marks == ["❌", "❔", "✅"]
    assert f"| package | {'a' * 64} |" in lines


def test_data_in_a_summary_is_neither_markup_nor_a_mention() -> None:
    shown = to_markdown(report(finding("a_b", "undecided", HOSTILE)))
    [row] = [line for line in shown.splitlines() if "octocat" in line]
    cells = row.split("|")
    assert (len(cells), cells[2].strip()) == (5, "a_b")
    for markup in ("<", "`", "[", "**", "~~", "_i_", "@o", " #12", "://", "www.", "$x"):
        assert markup not in cells[3], markup
    assert "# title" not in shown
    assert cells[3].isprintable()


def test_a_long_text_is_cut_and_says_so() -> None:
    assert plain("x" * LONGEST_TEXT) == "x" * LONGEST_TEXT
    assert plain("x" * (LONGEST_TEXT + 1500)).endswith(" … (1,500 more characters)")


def test_stored_evidence_is_reported_with_scores_and_differences(
    scored_folder: Path, tmp_path: Path
) -> None:
    junit, markdown = tmp_path / "new/out.xml", tmp_path / "out.md"
    options = ("--junit", str(junit), "--markdown", str(markdown))
    done = assay_in(tmp_path / "home", "gate", "screen", str(scored_folder), *options)
    assert done.exit_code == 0, done.output
    suite = suite_of(junit.read_text(encoding="utf-8"))
    assert {kind for _, kind in kinds(suite)} == {None}
    text = markdown.read_text(encoding="utf-8")
    assert "Verdict of screen: PASSED" in text
    assert "| metric | adapter | few_shot | base |" in text
    assert re.search(
        r"\| chrf \| base \| \+[\d.]+ \| \+[\d.]+ to \+[\d.]+ \| 30 \|", text
    )


def test_a_folder_without_the_gates_name_is_judged_by_screen(
    scored_folder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(scored_folder, tmp_path / "judge")
    for words in (["screen", str(folder)], [str(folder)], ["--json", str(folder)]):
        assert assay_in(tmp_path / "home", "gate", *words).exit_code == 0, words


@pytest.mark.parametrize(
    ("text", "name", "version"),
    [
        ("models:/support/3", "support", "3"),
        ("models:/a.b-c_d/12", "a.b-c_d", "12"),
        ("models:/support@champion", "support", "@champion"),
    ],
)
def test_an_address_names_a_version_or_an_alias(
    text: str, name: str, version: str
) -> None:
    assert parse_model_address(text) == ModelAddress(name=name, version=version)


BAD = (
    "support/3",
    "models:/",
    "models:/support",
    "models:/support/",
    "models:/support/latest",
    "models:/support/0",
    "models:/support/03",
    "models:/support/3\n",
    "models:/support/٣",
    "models:/support/3/4",
    "models:/support/1234567890",
    "models:/m-0123456789abcdef",
    "models:/../3",
    "models:/a..b/3",
    "models:/../../etc/3",
    "models:/%2e%2e/3",
    "models:/a%2fb/3",
    "models:/sup port/3",
    "models:/süpport/3",
    "models:/sup\u2024port/3",
    f"models:/{'x' * 300}/3",
    f"models:/{'x' * 101}@champion",
    "models:/support@",
    "models:/support@a/b",
    "models:/support@..",
    "models:/support@a@b",
    "models:/support@é",
    "models:///support/3",
    "runs:/support/3",
)


@pytest.mark.parametrize("text", BAD)
def test_whatever_names_no_single_version_is_wrong_usage(
    text: str, tmp_path: Path
) -> None:
    with pytest.raises(ParameterError, match=r"models:/NAME/NUMBER"):
        parse_model_address(text)
    done = assay_in(tmp_path / "home", "gate", "judge", text)
    assert done.exit_code == 2, done.output
    assert not any(tmp_path.iterdir()), "nothing is opened for it"
