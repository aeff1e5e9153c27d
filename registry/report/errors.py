"""How far the verdict can be wrong: the power of the gate, and the error of a year of them."""

from pipelines.gates.confirmation import NO_RESERVE, find_confirmed
from pipelines.gates.policy import FEWEST_CLUSTERS
from pipelines.gates.what_passes import describe_power
from pipelines.scoring.evidence_file import read_evidence
from pipelines.values.reserve import Confirmation
from pipelines.values.verdict import Finalist
from registry.release.confirmed import FOLDER, STORED
from registry.report.html import paragraph, section
from registry.report.scored import Scored

_MOST_ROWS = 20_000
"""Answers that are read whole for the power: each takes some kilobytes of memory."""
_UNKNOWN = "The power of the gate is not known: too few clusters, or no spread"


def show_errors(scored: Scored) -> str:
    """What such evidence can show, and which error the gate has over a year."""
    sentences = (*_describe_power(scored), describe_year(scored))
    parts = [paragraph_of(sentence) for sentence in sentences]
    return section("errors", "Power, and the error of a year", *parts)


def paragraph_of(sentence: str) -> str:
    """A sentence of a gate, which has no full stop, as a paragraph."""
    return paragraph(f"{sentence.rstrip('.')}.")


def _describe_power(scored: Scored) -> tuple[str, ...]:
    """The power of all rules together; from the verdict's own evidence."""
    evidence = scored.evidence
    prompts = len(evidence.prompt_ids)
    systems = len(evidence.systems)
    rows = prompts * systems
    # A page must not need more memory than the evaluation that it shows.
    if rows > _MOST_ROWS:
        sentence = (
            f"The power of the gate is not counted on a page of more than {_MOST_ROWS:,} answers: "
            "`assay gate FOLDER` says it of an undecided verdict"
        )
        return (sentence,)
    sentences: tuple[str, ...] = ()
    # Under the floor no spread is known, and of one cluster none exists.
    clusters = set(evidence.clusters)
    if len(clusters) >= FEWEST_CLUSTERS:
        whole = read_evidence(evidence.path)
        sentences = describe_power(whole, scored.screen)
    return sentences or (_UNKNOWN,)


def describe_year(scored: Scored) -> str:
    """What confirmed the candidate on sealed rows, or the error without them."""
    if scored.screen.reserve != "sealed":
        return NO_RESERVE
    path = scored.folder / FOLDER / STORED
    if path.is_file():
        return find_confirmed(Confirmation.read(path)).text
    # Only what passed on the standing rows is tried on sealed ones.
    if isinstance(scored.verdict, Finalist):
        return "A reserve is sealed, and the folder does not say what confirmed the candidate"
    return "A reserve is sealed, and nothing of it was opened: `screen` did not pass"
