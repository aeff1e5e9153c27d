"""Groups of people, what happened to the version so far, and what exactly it is."""

from collections.abc import Iterator

from operations.release_report.facts import Facts
from operations.release_report.html import (
    LONGEST_CELL,
    cut,
    element,
    paragraph,
    section,
    shown,
    table,
)
from pipelines.values.dataset import BiasReport, GroupRate, Interval

_MOST_GROUPS = 100
_MOST_EVENTS = 200


def show_groups(facts: Facts) -> str:
    """How the groups of a sensitive feature differ, in the outputs and in the data."""
    parts = _groups(facts.scorecard.bias, "In the answers")
    if facts.data_bias is not None:
        parts += _groups(facts.data_bias, "In the training data")
    return section("groups", "Groups", *parts)


def _groups(report: BiasReport, place: str) -> list[str]:
    caption = f"{place}: {report.method}, by {report.metric}"
    if not report.groups:
        return [paragraph(f"{caption}. There are no groups to compare.")]
    # A feature may have any number of values.
    groups = report.groups[:_MOST_GROUPS]
    titles = ("group", "rows", "favourable", "score", "refused")
    rows = [_group(each, report) for each in groups]
    parts = [table(caption, titles, rows)]
    more = len(report.groups) - len(groups)
    if more:
        parts.append(paragraph(f"{more} more groups are in the scorecard."))
    for name, interval in _gaps(report):
        bounds = f"[{interval.low:.3g}, {interval.high:.3g}]"
        text = f"Largest {name} between groups: {interval.estimate:.3g} {bounds}."
        parts.append(paragraph(text))
    return parts


def _group(group: GroupRate, report: BiasReport) -> tuple[str, ...]:
    name = cut(group.group, LONGEST_CELL)
    # Too few rows say nothing, and must not look fair.
    if group.group in report.insufficient:
        fewest = report.min_group_size
        note = shown(f"(insufficient: under {fewest} rows)")
        name = f"{name} {note}"
    return (
        name,
        str(group.n),
        _number(group.rate),
        _number(group.score),
        _number(group.refused),
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _gaps(report: BiasReport) -> Iterator[tuple[str, Interval]]:
    gaps = {
        "difference in score": report.score_difference,
        "difference in favourable rows": report.demographic_parity_difference,
        "difference in refusals": report.refusal_difference,
    }
    for name, interval in gaps.items():
        if interval is not None:
            yield name, interval


def show_events(facts: Facts) -> str:
    """What people and the controller did with the version, with their reasons."""
    events = facts.events
    # The newest: they say how it stands.
    shown_events = events[-_MOST_EVENTS:]
    rows = []
    for event in shown_events:
        # Whoever erased the text left its digest.
        reason = event.reason or ""
        if event.reason is None and event.reason_sha256 is not None:
            reason = "reason erased"
        at = f"{event.at:%Y-%m-%d %H:%M:%S}Z"
        rows.append(
            (
                str(event.generation),
                shown(at),
                shown(event.words),
                cut(event.by or "", LONGEST_CELL),
                cut(reason, LONGEST_CELL),
            )
        )
    titles = ("entry", "at", "what", "by", "reason")
    parts = []
    if len(events) > len(shown_events):
        earlier = len(events) - len(shown_events)
        parts.append(paragraph(f"{earlier} earlier entries: `assay history`."))
    if rows:
        parts.append(table("Entries of the ledger, oldest first", titles, rows))
    else:
        parts.append(paragraph("The ledger holds no entry about this version."))
    if facts.history.error is not None:
        broken = f"The ledger is broken after these: {facts.history.error}"
        parts.append(paragraph(broken))
    return section("events", "What happened so far", *parts)


def show_origin(facts: Facts) -> str:
    """Where the version came from and who approved it there; empty where it was made here."""
    if not facts.origin:
        return ""
    sentences = [
        paragraph(cut(sentence, LONGEST_CELL * 4)) for sentence in facts.origin
    ]
    return section("origin", "Where it came from", *sentences)


def show_identities(facts: Facts) -> str:
    """Fingerprint and digests, as responses and the ledger name them."""
    rows = []
    for name, digest in facts.identities.items():
        code = element("code", cut(digest, LONGEST_CELL))
        rows.append((shown(name), code))
    return section(
        "identities",
        "Fingerprints",
        table("What was judged, and by what", ("what", "digest"), rows),
    )
