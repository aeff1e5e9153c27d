"""A gate's answer as JUnit XML, which GitHub, GitLab and Jenkins show as tests.

One test case a rule. Undecided is a failure, too: what is skipped looks green.
"""

import re
from collections import Counter
from datetime import UTC, datetime
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from operations.gate_report.report import GateReport
from pipelines.values.verdict import Finding

_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 has no form for, not even an escaped one."""
_STORED_FILES = "stored files"
_HEADER = '<?xml version="1.0" encoding="UTF-8"?>'


def to_junit(report: GateReport, at: datetime | None = None) -> str:
    """Write one suite with a case for each rule, and one for stored files that differ."""
    suites = Element("testsuites")
    suite = _add(suites, "testsuite", _suite_attributes(report, at))
    properties = _add(suite, "properties", {})
    for name, digest in report.identities.items():
        entry = {
            "name": name,
            "value": digest,
        }
        _add(properties, "property", entry)
    _add_findings(suite, report)
    _add_differences(suite, report)
    lines = [_line(finding) for finding in report.findings]
    _add(suite, "system-out", {}, report.sentence, *lines)
    _add(suite, "system-err", {})
    indent(suites)
    body = tostring(suites, encoding="unicode")
    return f"{_HEADER}\n{body}\n"


def _suite_attributes(report: GateReport, at: datetime | None) -> dict[str, str]:
    moment = at or datetime.now(UTC)
    in_utc = moment.astimezone(UTC)
    outcomes = [finding.outcome for finding in report.findings]
    rules = len(outcomes)
    failures = rules - outcomes.count("passed")
    # All differences are one case: a reader has to see that there are some.
    errors = min(1, len(report.differences))
    cases = rules + errors
    return {
        "name": f"{report.gate}: {report.subject}",
        "tests": str(cases),
        "failures": str(failures),
        "errors": str(errors),
        "skipped": "0",
        "time": "0",
        # Without a zone: that is how the schema of JUnit has it.
        "timestamp": f"{in_utc:%Y-%m-%dT%H:%M:%S}",
        "hostname": "localhost",
        "id": "0",
        "package": "assay",
    }


def _add_findings(suite: Element, report: GateReport) -> None:
    seen: Counter[str] = Counter()
    for finding in report.findings:
        rule = finding.rule
        seen[rule] += 1
        # Readers merge the cases of one name.
        if seen[rule] > 1:
            rule = f"{rule} ({seen[rule]})"
        case = _add_case(suite, report.gate, rule)
        if finding.outcome == "passed":
            continue
        reason = {
            "message": finding.text,
            "type": finding.outcome,
        }
        _add(case, "failure", reason, _line(finding))


def _add_differences(suite: Element, report: GateReport) -> None:
    count = len(report.differences)
    if count == 0:
        return
    case = _add_case(suite, report.gate, _STORED_FILES)
    reason = {
        "message": f"{count} differences between stored files and what they give",
        "type": "differs",
    }
    _add(case, "error", reason, *report.differences)


def _add_case(suite: Element, gate: str, name: str) -> Element:
    attributes = {
        "classname": f"assay.{gate}",
        "name": name,
        "time": "0",
    }
    return _add(suite, "testcase", attributes)


def _add(parent: Element, tag: str, attributes: dict[str, str], *lines: str) -> Element:
    """Add an element; its texts are escaped when they are written."""
    element = SubElement(parent, tag)
    for name, text in attributes.items():
        element.set(name, _clean(text))
    if lines:
        element.text = _clean("\n".join(lines))
    return element


def _line(finding: Finding) -> str:
    outcome = f"{finding.outcome:9}"
    text = finding.text
    return f"{outcome} {finding.rule}: {text}"


def _clean(text: str) -> str:
    """The text with what XML cannot hold spelt out."""

    def spell_out(found: re.Match[str]) -> str:
        letter = found[0]
        return f"\\u{ord(letter):04x}"

    return _NO_XML.sub(spell_out, text)
