"""Which rules a person may waive for a while, and which waivers stand in for what is missing."""

from collections.abc import Mapping, Sequence

from core.account import Signed, group_by_person
from pipelines.gates.policy import JudgePolicy
from pipelines.values.verdict import Finding
from registry.release.judging.circumstances import Circumstances, WaivedRule
from registry.release.judging.findings import format_moment

# A rule that is added later cannot be waived until it is listed here.
WAIVABLE = frozenset(
    {
        "human_rating",
        "approvals",
        "policy_change",
        "package_signature",
        "freshness",
        "comparator",
        "anchor",
    }
)
"""Rules that a person may waive for a while: not evidence, its origin, a revocation or a freeze.

Never the author, who would judge in their own cause.
"""
NOT_BY_ONE_PERSON = frozenset(
    {"human_rating", "approvals", "policy_change", "package_signature"}
)
"""Where several of these are missing, one person may not waive all that are.

Nobody else would have looked at the version.
"""
_BY_ONE_PERSON = (
    "one person waived all that people and keys have to give, "
    "and another one must waive one of them"
)


def choose_waivers(
    found: Sequence[Finding], case: Circumstances, limits: JudgePolicy
) -> Mapping[str, WaivedRule]:
    """The waiver that stands in for each rule; of several the latest."""
    counted = {
        finding.rule: [
            waiver
            for waiver in _standing_waivers(finding, case)
            if case.objection_to(waiver, limits) is None
        ]
        for finding in found
    }
    missing = [finding.rule for finding in found if finding.outcome == "undecided"]
    refused = _waived_by_one_person(missing, counted)
    return {
        # A renewed waiver replaces the older one that it renews.
        rule: max(waivers, key=lambda waiver: waiver.generation)
        for rule, waivers in counted.items()
        if waivers and rule not in refused
    }


def _standing_waivers(finding: Finding, case: Circumstances) -> list[WaivedRule]:
    """The waivers of what is missing that have not ended, whoever gave them."""
    # Nobody may waive what was shown to be worse: only what is undecided.
    if finding.outcome != "undecided" or finding.rule not in WAIVABLE:
        return []
    return [
        waiver
        for waiver in case.waivers
        if waiver.rule == finding.rule and case.now < waiver.until
    ]


def _waived_by_one_person(
    missing: Sequence[str], counted: Mapping[str, Sequence[WaivedRule]]
) -> frozenset[str]:
    """The missing rules that would all be waived by one person; empty where two people did."""
    rules = NOT_BY_ONE_PERSON.intersection(missing)
    # A single one may be left to a single person.
    if len(rules) < 2:
        return frozenset()
    persons = group_by_person(
        Signed(waiver.by, waiver.account or waiver.by, frozenset(waiver.persons))
        for rule in rules
        for waiver in counted[rule]
    )
    return rules if len(persons) == 1 else frozenset()


def apply_waivers(
    finding: Finding,
    waivers: Mapping[str, WaivedRule],
    case: Circumstances,
    limits: JudgePolicy,
) -> Finding:
    """The finding as it stands: waived, or with the reason why a waiver does not count."""
    waiver = waivers.get(finding.rule)
    if waiver is not None:
        return _waive(finding, waiver)
    sentences = [finding.text]
    for refused in _standing_waivers(finding, case):
        person = _name_waiver(refused)
        reason = case.objection_to(refused, limits) or _BY_ONE_PERSON
        sentences.append(
            f"The waiver of entry {refused.generation} by {person} "
            f"does not count: {reason}"
        )
    text = ". ".join(sentences)
    return finding.model_copy(update={"text": text})


def _waive(finding: Finding, waiver: WaivedRule) -> Finding:
    until = format_moment(waiver.until)
    person = _name_waiver(waiver)
    text = (
        f"{finding.rule} is waived until {until} by {person} "
        f"(entry {waiver.generation})"
    )
    changes = {
        "outcome": "passed",
        "text": text,
    }
    return finding.model_copy(update=changes)


def _name_waiver(waiver: WaivedRule) -> str:
    """The name, and the account behind it."""
    if waiver.account is None:
        return waiver.by
    return f"{waiver.by}, account {waiver.account}"


def offer_waiver(step: str, rule: str, case: Circumstances) -> str:
    """The next step, and that another person may waive the rule instead."""
    command = f"assay waive --rule {rule} --model {case.model} --until … --reason …"
    return f"{step}, or have another person than the author type `{command}`"
