"""The gate before release: evidence, origin, people, keys and time must all allow it.

Every rule asks whether it passed. What the policy asks for and does not exist yet leaves the
verdict undecided, never passed.
"""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import TypeVar

from pydantic import ValidationError

from core.errors import IncompleteEvidence
from core.value import Value, first_problem
from pipelines.gates.policy import JudgePolicy, Policy
from pipelines.values.verdict import Candidate, Finalist, Finding, Rejection, Undecided
from registry.release.judging.circumstances import Circumstances
from registry.release.judging.findings import format_moment, passed, rejected, undecided
from registry.release.judging.origin_rules import (
    check_admission,
    check_confirmation,
    check_drawable,
    check_registration,
    check_screening,
)
from registry.release.judging.rating_rules import check_ratings
from registry.release.judging.waivers import apply_waivers, choose_waivers, offer_waiver

V = TypeVar("V", bound=Value)


def judge(
    finalist: Finalist, circumstances: Circumstances, policy: Policy
) -> Candidate | Rejection | Undecided:
    """Decide whether a registered version may be released.

    Any rule that rejects makes a rejection; else any that is undecided leaves it undecided; else
    it is a candidate. `IncompleteEvidence` where one of the values is not valid.
    """
    finalist, case = _validate(finalist), _validate(circumstances)
    limits = policy.gates.judge
    found = tuple(check_every_rule(finalist, case, policy))
    waivers = choose_waivers(found, case, limits)
    findings = [apply_waivers(finding, waivers, case, limits) for finding in found]
    used_waivers = [
        waivers[finding.rule].generation for finding in found if finding.rule in waivers
    ]
    outcomes = {finding.outcome for finding in findings}
    if "rejected" in outcomes:
        return Rejection(
            gate="judge", findings=tuple(findings), policy_sha256=policy.sha256
        )
    # Asked this way round, an outcome that nobody foresaw, or no finding at all, does not pass.
    if outcomes != {"passed"}:
        return Undecided(
            gate="judge", findings=tuple(findings), policy_sha256=policy.sha256
        )
    return Candidate(
        findings=tuple(findings),
        policy_sha256=policy.sha256,
        model=case.model,
        version=case.version,
        package_sha256=case.package_sha256,
        spec=finalist.spec,
        # The limits of the probe go along: the endpoint has no policy to look them up in.
        known_answers_share=limits.known_answers_share,
        drawn_answers=min(limits.drawn_answers, case.drawable),
        canary=policy.gates.canary,
        replica_quorum=policy.gates.replica_quorum,
        registration=None if case.origin is None else case.origin.generation,
        waivers=tuple(used_waivers),
        signed_by=_signer(case),
    )


def check_every_rule(
    finalist: Finalist, case: Circumstances, whole: Policy
) -> Iterator[Finding]:
    """Every rule's finding, whatever the others found, before waivers."""
    policy = whole.gates.judge
    # All of them, so that a person sees every reason at once.
    yield check_registration(finalist, case)
    yield check_admission(case)
    yield check_screening(finalist, case)
    yield check_confirmation(case, whole)
    yield check_drawable(case, policy)
    yield check_revocation(case)
    yield check_freeze(case)
    yield check_comparator(case, policy)
    yield check_anchor(case, policy)
    yield check_ratings(case, policy)
    yield check_approvals(case, policy)
    yield check_policy_change(case, whole)
    yield check_package_signature(case, policy)
    yield check_freshness(case, policy)


def check_revocation(case: Circumstances) -> Finding:
    """A version that was revoked is never released again."""
    rule, name = "revoked", f"Version {case.version} of {case.model}"
    if not case.revoked:
        return passed(rule, f"{name} is not revoked")
    return rejected(
        rule,
        f"{name} is revoked, or its adapter is under another name, for good: train another one",
    )


def check_freeze(case: Circumstances) -> Finding:
    """Nothing is released while releases are frozen."""
    if not case.frozen:
        return passed("frozen", "Releases are not frozen")
    # Undecided and not rejected: there is nothing wrong with the version.
    return undecided(
        "frozen",
        "Releases are frozen. `assay status` says since when and by whom, "
        "`assay unfreeze` ends it",
    )


# Comparison, people, keys and time: a person may waive these for a while.


def check_comparator(case: Circumstances, policy: JudgePolicy) -> Finding:
    """The evidence compares with the last version that had full traffic.

    Also while the base answers: what was taken back must still be beaten.
    """
    rule = "comparator"
    compared, champion = _name_version(case.compared_with), _name_version(case.champion)
    text = f"The evidence compares with {compared}, {champion} had full traffic last"
    if not policy.compares_with_last_served:
        return passed(rule, f"{text}; the policy does not ask for that comparison")
    if case.is_champion_itself:
        return passed(
            rule,
            f"{text}, which is this version itself: it was compared before its own release",
        )
    # The same number with other bytes is another version.
    is_same_version = case.compared_with == case.champion
    is_same_adapter = case.compared_adapter == case.champion_adapter
    if is_same_version and is_same_adapter:
        return passed(rule, text)
    if is_same_version:
        text = f"{text}, with another adapter than was compared"
    return undecided(
        rule,
        f"{text}: run the training again, to be compared with it, "
        "or have somebody else than the author waive it",
    )


def check_anchor(case: Circumstances, policy: JudgePolicy) -> Finding:
    """The evidence compares with the anchor of now: an older one allows other losses."""
    rule = "anchor"
    if not policy.compares_with_last_served:
        return passed(rule, "The policy does not ask for that comparison")
    if case.anchor is None:
        return passed(rule, "Nothing was ever released: there is no anchor yet")
    own = None if case.origin is None else case.origin.adapter_sha256
    # The first champion is anchor and champion at once, and is compared with once.
    if case.anchor in (own, case.compared_anchor, case.compared_adapter):
        return passed(rule, f"The evidence compares with the anchor {case.anchor[:12]}")
    return undecided(
        rule,
        f"The evidence does not compare with the anchor, whose adapter is {case.anchor[:12]}: "
        "run the training again, to be compared with it, or have somebody else than the author "
        "waive it",
    )


def check_approvals(case: Circumstances, policy: JudgePolicy) -> Finding:
    """Enough people approved who did not train it."""
    rule = "approvals"
    approvers = case.approvers()
    text = (
        f"{len(approvers)} approvals{_in_brackets(approvers)} "
        f"by others than {case.author}, who trained it; "
        f"the policy asks for {policy.approvals}"
    )
    if case.approvals and case.author_account is None:
        text += (
            " (the account that trained it is not on record, "
            "so nobody can be told from it)"
        )
    unheard = case.approved_without_the_role()
    if unheard:
        text += f" (without the role approver: {', '.join(unheard)})"
    if len(approvers) >= policy.approvals:
        return passed(rule, text)
    step = offer_waiver("have it approved", rule, case)
    return undecided(rule, f"{text}: {step}")


def _in_brackets(names: Sequence[str]) -> str:
    """The names in brackets, with a space before them; empty where there are none."""
    if not names:
        return ""
    in_order = sorted(names)
    listed = ", ".join(in_order)
    return f" ({listed})"


def check_policy_change(case: Circumstances, policy: Policy) -> Finding:
    """Another policy than that of the last release needs one approver more than either asks for.

    Otherwise whoever loosens the policy lets their own version through.
    """
    rule = "policy_change"
    now = policy.sha256[:12]
    last = case.last_policy
    if last is None:
        return passed(
            rule,
            f"Policy {now} is the first one: nothing was released yet",
        )
    if last == policy.sha256:
        return passed(
            rule,
            f"The last release was judged by policy {now}, too",
        )
    # The new policy may be the one that lets others' approvals count.
    approvers = case.approvers(only_here=True)
    wanted = max(policy.gates.judge.approvals, case.last_approvals) + 1
    text = (
        f"The last release was judged by policy {last[:12]}, "
        f"this one is by {now}: that asks for {wanted} approvals given here, "
        f"and there are {len(approvers)}{_in_brackets(approvers)}"
    )
    if len(approvers) >= wanted:
        return passed(rule, text)
    step = offer_waiver("have it approved, or bring that policy back", rule, case)
    return undecided(rule, f"{text}: {step}")


def check_package_signature(case: Circumstances, policy: JudgePolicy) -> Finding:
    """The package was signed, these bytes and no others."""
    rule, signature = "package_signature", case.signature
    if not policy.package_signature_required:
        return passed(rule, "The policy asks for no signature on the package")
    package = case.package_sha256[:12]
    sign = f"`assay sign {case.version} --model {case.model}` signs what the ledger registered"
    # Whoever changed it, or has that key, must not be waived.
    if case.signature_fault:
        return rejected(rule, f"{case.signature_fault}: {sign}")
    if signature is None:
        step = offer_waiver(sign, rule, case)
        return undecided(
            rule,
            f"Package {package} bears no signature, the policy asks for one: {step}",
        )
    text = (
        f"Key {signature.key_id[:12]} signed package {signature.package_sha256[:12]}, "
        f"judged is {package}"
    )
    # A signature over other bytes says nothing about these.
    if signature.package_sha256 == case.package_sha256:
        return passed(rule, text)
    step = offer_waiver(sign, rule, case)
    return undecided(rule, f"{text}: {step}")


def _signer(case: Circumstances) -> str | None:
    """The key whose signature is verified before each load; None where there is no such one."""
    signature = case.signature
    if signature is None or case.signature_fault:
        return None
    is_of_these_bytes = signature.package_sha256 == case.package_sha256
    return signature.key_id if is_of_these_bytes else None


def check_freshness(case: Circumstances, policy: JudgePolicy) -> Finding:
    """The evidence is not older than the policy allows, and not from the future."""
    rule = "freshness"
    age = case.now - case.registered_at
    # A machine whose clock was wrong at the registration must not make evidence ageless.
    if not age >= timedelta(0):
        moment = format_moment(case.registered_at)
        return undecided(
            rule,
            f"It was registered at {moment}, which is still to come: "
            "set this machine's clock right",
        )
    text = (
        f"The evidence is {age / timedelta(days=1):.1f} days old, "
        f"the policy allows {policy.max_age_days:g}"
    )
    if age <= timedelta(days=policy.max_age_days):
        return passed(rule, text)
    step = offer_waiver("run the training again", rule, case)
    return undecided(rule, f"{text}: {step}")


def _validate(value: V) -> V:
    """Validate once more: a value that was built without it could hold NaN or a naive time."""
    document = value.model_dump(warnings=False)
    try:
        return type(value).model_validate(document)
    except ValidationError as error:
        raise IncompleteEvidence(
            f"What judge is to look at is not valid: {first_problem(error)}. Promote again."
        ) from error


def _name_version(number: str | None) -> str:
    if number is None:
        return "no champion"
    return f"version {number}"
