"""A gate's answer as Markdown: a summary for a pull request or a job's page.

The sentence comes first, then what must change, then the numbers. Texts that came from data are
shown as they are: no markup, no link, and no mention that would notify a person.
"""

import re
from collections.abc import Iterable, Iterator

from operations.gate_report.report import GateReport
from pipelines.values.evidence import Scorecard, SystemScore
from pipelines.values.verdict import Comparison, Finding
from registry.mlflow.card import format_score

_MARKS = {"passed": "✅", "rejected": "❌", "undecided": "❔"}
_FIRST = {"rejected": 0, "undecided": 1, "passed": 2}
_ORDER = (
    "adapter",
    "champion",
    "retrieval",
    "few_shot",
    "base",
    "anchor",
)
LONGEST_TEXT = 1200
"""Characters of one cell: the comment of a pull request takes 65,536 in all."""
_MOST_DIFFERENCES = 20
_APART = "&#8203;"
"""A space without width: `@name`, `#1` and `https://` behind it are no mention and no link."""
# As numbers, which Markdown never takes for the mark itself.
_ENTITIES = {letter: f"&#{ord(letter)};" for letter in "&<>|\\`*~[]$"}
_ENTITIES |= {"@": f"@{_APART}", "#": f"#{_APART}"}
_TO_ENTITIES = str.maketrans(_ENTITIES)
# Within a word it is no mark, and rules have such names.
_MARKING_UNDERSCORE = re.compile(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")


def to_markdown(report: GateReport) -> str:
    """Write the summary; an empty line ends every part."""
    # Files that contradict each other are no pass, whatever the verdict computed from them is.
    mark = _MARKS[report.verdict]
    if report.differences:
        mark = _MARKS["rejected"]
    sentence = plain(report.sentence)
    heading = f"### {mark} {sentence}"
    lines = [
        heading,
        "",
        *_difference_lines(report.differences),
        *_rule_lines(report.findings),
        *_comparison_lines(report.comparisons),
    ]
    if report.scorecard is not None:
        lines += _score_lines(report.scorecard)
    lines += _table("what", "fingerprint")
    for name, digest in report.identities.items():
        lines.append(_row(name, digest))
    text = "\n".join(lines)
    return f"{text}\n"


def plain(text: str) -> str:
    """Show data as text on one line, cut where it is long."""
    letters = [letter if letter.isprintable() else " " for letter in text]
    line = "".join(letters)
    more = len(line) - LONGEST_TEXT
    if more > 0:
        beginning = line[:LONGEST_TEXT]
        line = f"{beginning} … ({more:,} more characters)"
    line = line.translate(_TO_ENTITIES)
    line = _MARKING_UNDERSCORE.sub("&#95;", line)
    # Markdown makes links of these without any mark.
    line = line.replace("://", f":{_APART}//")
    return line.replace("www.", f"www{_APART}.")


def _table(*titles: str) -> list[str]:
    """The first two lines of a table."""
    rule = ["---"] * len(titles)
    return [
        _row(*titles),
        _row(*rule),
    ]


def _row(*texts: str) -> str:
    cells = [plain(text) for text in texts]
    joined = " | ".join(cells)
    return f"| {joined} |"


def _rule_lines(findings: tuple[Finding, ...]) -> Iterator[str]:
    yield from _table("", "rule", "found and wanted")
    # What must change first; `sorted` leaves the rest in the gate's order.
    ordered = sorted(findings, key=_urgency)
    for finding in ordered:
        outcome = finding.outcome
        yield _row(
            f"{_MARKS[outcome]} {outcome}",
            finding.rule,
            finding.text,
        )
    yield ""


def _urgency(finding: Finding) -> int:
    outcome = finding.outcome
    return _FIRST[outcome]


def _difference_lines(differences: tuple[str, ...]) -> Iterator[str]:
    for difference in differences[:_MOST_DIFFERENCES]:
        text = plain(difference)
        yield f"- {text}"
    more = len(differences) - _MOST_DIFFERENCES
    if more > 0:
        yield f"- and {more} more"
    if differences:
        yield ""


def _comparison_lines(comparisons: Iterable[Comparison]) -> Iterator[str]:
    # The champion first: that is what the version would replace.
    ordered = sorted(comparisons, key=lambda each: _place(each.against))
    if not ordered:
        return
    yield "Differences, positive is better, with one-sided bounds at the policy's level:"
    yield ""
    yield from _table("metric", "against", "difference", "bounds", "clusters")
    for each in ordered:
        yield _row(
            each.metric,
            each.against,
            f"{each.difference:+.3g}",
            f"{each.low:+.3g} to {each.high:+.3g}",
            str(each.clusters),
        )
    yield ""


def _score_lines(scorecard: Scorecard) -> Iterator[str]:
    systems = sorted(scorecard.systems, key=lambda each: _place(each.system))
    # A forged scorecard may hold none: the verdict says so.
    if not systems:
        return
    names = [system.system for system in systems]
    yield from _table("metric", *names)
    for metric in systems[0].metrics:
        arrow = "↓"
        if metric.higher_is_better:
            arrow = "↑"
        cells = [_cell(system, metric.name) for system in systems]
        yield _row(f"{metric.name} {arrow}", *cells)
    yield ""
    yield (
        f"{scorecard.prompts} held-out prompts in {scorecard.clusters} clusters; "
        "95 % intervals by cluster bootstrap."
    )
    yield ""


def _place(system: str) -> int:
    if system not in _ORDER:
        return len(_ORDER)
    return _ORDER.index(system)


def _cell(system: SystemScore, metric: str) -> str:
    for score in system.metrics:
        if score.name == metric:
            return format_score(score)
    return ""
