"""How the numbers came about, and what they do not cover."""

from collections.abc import Iterator

from pipelines.values.evidence import Scorecard
from pipelines.values.verdict import STATISTICS
from registry.report.html import LONGEST_CELL, cut, element, section, shown, table
from registry.report.scored import Scored


def show_methods(
    scored: Scored, identifier: str = "methods", title: str = "Methods"
) -> str:
    """Signatures, seeds and digests: whoever has the same files finds the same numbers."""
    metrics = [
        (shown(name), cut(signature, LONGEST_CELL))
        for name, signature in _signatures(scored.scorecard)
    ]
    facts = [
        (shown(name), element("code", cut(text, LONGEST_CELL)))
        for name, text in _facts(scored)
    ]
    return section(
        identifier,
        title,
        table("How each metric was counted", ("metric", "signature"), metrics),
        table("What everything rests on", ("what", "value"), facts),
    )


def _signatures(scorecard: Scorecard) -> Iterator[tuple[str, str]]:
    """Each metric once; where systems differ, one line for each of them."""
    seen = {}
    for system in scorecard.systems:
        for metric in system.metrics:
            pair = (metric.name, metric.signature)
            # Perplexities count other tokens under another tokenizer: that has to be seen.
            if pair not in seen:
                seen[pair] = system.system
                yield metric.name, metric.signature


def _facts(scored: Scored) -> Iterator[tuple[str, str]]:
    scorecard, verdict = scored.scorecard, scored.verdict
    screen, resampling = scored.screen, scored.scorecard.resampling
    # First: bounds of other statistics are other bounds of the same answers.
    version = verdict.statistics
    yield "statistics", "without a number" if version is None else str(version)
    if version != STATISTICS:
        yield "statistics of this Assay", str(STATISTICS)
    yield "level of every comparison", f"{screen.alpha:g}, one-sided"
    yield "resamples and seed of bounds", f"{screen.resamples}, {screen.seed}"
    yield (
        "resamples and seed of intervals",
        f"{resampling.resamples}, {resampling.seed}",
    )
    yield "policy", f"{scored.policy.gates.name}, {scored.policy.sha256}"
    yield "verdict", verdict.content_sha256()
    yield "scorecard", scorecard.content_sha256()
    yield "evidence", scorecard.evidence.sha256
    yield "held-out rows", scorecard.held_out_sha256
    yield "data", scorecard.dataset_digest
    adapter = scorecard.adapter
    yield "adapter", adapter.sha256
    yield "base", f"{adapter.base_id}, {adapter.base_digest}"
    yield "chat template", scorecard.spec.chat_template_sha256 or "none"
    yield "engine", f"{scorecard.spec.engine} {scorecard.spec.engine_version}"
    yield "precision", scorecard.spec.precision
    yield from _makers(scored)


def _makers(scored: Scored) -> Iterator[tuple[str, str]]:
    """What gave each system's answers; older evidence does not say."""
    for system, spec in scored.evidence.header.made_by.items():
        adapter = spec.adapter_sha256 or "no adapter"
        base, template = spec.base_digest, spec.chat_template_sha256 or "no template"
        engine = f"{spec.engine} {spec.engine_version} in {spec.precision}"
        yield f"answers of {system}", f"{adapter} on {base}, {template}, by {engine}"


def show_uncovered(scored: Scored) -> str:
    """What a good verdict does not say."""
    items = [element("li", shown(f"{text}.")) for text in _uncovered(scored)]
    content = element("ul", "".join(items))
    return section("uncovered", "What is not covered", content)


def _uncovered(scored: Scored) -> Iterator[str]:
    scorecard = scored.scorecard
    yield (
        f"Prompts other than these {scorecard.prompts}, in {scorecard.clusters} clusters: the "
        "numbers hold for prompts that are drawn as they were"
    )
    yield _describe_answers(scorecard)
    yield from _unprobed(scorecard)
    yield "What people think of the answers: ratings are judged at the release, by `judge`"
    for metric in scorecard.systems[0].metrics if scorecard.systems else ():
        if metric.inapplicable is not None:
            yield f"{metric.name}: {metric.inapplicable}"
    bias = scorecard.bias
    if len(bias.groups) - len(bias.insufficient) < 2:
        yield "Groups of people: fewer than two are large enough to be compared"
    if "champion" not in scored.evidence.systems:
        yield "A comparison with what serves: there was no champion"
    if scorecard.adapter.elsewhere is not None:
        yield (
            "Whether the adapter saw the held-out rows: it was trained elsewhere, "
            "and nobody here can tell"
        )


def _describe_answers(scorecard: Scorecard) -> str:
    longest = scorecard.spec.default_max_tokens
    drawn = scorecard.sampled_as
    if drawn is None:
        return f"Answers by sampling: every answer here is greedy, and of {longest} tokens at most"
    return (
        f"Greedy answers, and other temperatures: scores are means of {drawn.samples} answers at "
        f"temperature {drawn.temperature:g}, of {longest} tokens at most"
    )


def _unprobed(scorecard: Scorecard) -> Iterator[str]:
    """What no probe looked at; what was asked stands among the rules."""
    yield "Personal data: nothing here looks for them in answers"
    if scorecard.wording is None:
        yield "Toxicity: no answer was searched for words that insult"
    if scorecard.safety is None:
        yield "Safety: no probe was asked for"
