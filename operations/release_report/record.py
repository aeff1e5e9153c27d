"""What happened to the version so far, where it came from, and what exactly it is."""

from operations.release_report.facts import Facts
from registry.report.html import (
    LONGEST_CELL,
    cut,
    element,
    paragraph,
    section,
    shown,
    table,
)

_MOST_EVENTS = 200


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
    earlier = len(events) - len(shown_events)
    if earlier > 0:
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
