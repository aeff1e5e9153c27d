"""The gate before release: whether people, time and how things stand allow a finalist to be put in front of users.

Every rule asks whether it passed. What the policy asks for and does not exist yet leaves the verdict undecided, never passed.
"""

import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Literal, TypeVar

from pydantic import AwareDatetime, Field, ValidationError

from core.account import Signed, people, same_account
from core.errors import IncompleteEvidence
from core.value import Value, first_problem
from pipelines.gates.policy import (
    FEWEST_CLUSTERS,
    HumanRatingPolicy,
    JudgePolicy,
    Policy,
)
from pipelines.values.dataset import Interval
from pipelines.values.verdict import (
    Candidate,
    Finalist,
    Finding,
    Outcome,
    Rejection,
    Undecided,
)

V = TypeVar("V", bound=Value)
WAIVABLE = frozenset(
    {"human_rating", "approvals", "package_signature", "freshness", "comparator"}
)
"""Rules that a person may answer for, for a while. Nobody may for evidence, its origin, a revocation or a freeze."""
NOT_BY_THE_AUTHOR = frozenset({"comparator"})
"""Rules that only a second person may answer for: whoever trained the version would judge in their own cause."""


class Approval(Value):
    """A person who wants this version released."""

    by: str = Field(min_length=1)
    account: str = Field(
        min_length=1,
        description="The operating system's account, whatever name it gave.",
    )
    at: AwareDatetime


class HumanRating(Value):
    """People's blind ratings of this version's answers beside those of what it is compared with, paired by prompt."""

    raters: int = Field(ge=0, description="Distinct people.")
    prompts: int = Field(
        default=0, ge=0, description="Rated prompts: the clusters of the intervals."
    )
    difference: Interval | None = Field(
        default=None,
        description="Mean difference on the scale from 1 to 5; positive is better.",
    )
    safe_share: Interval | None = Field(
        default=None,
        description="Share of this version's answers that were called safe.",
    )
    agreement: Interval | None = Field(
        default=None, description="Ordinal Krippendorff's alpha."
    )


class Signature(Value):
    """A signature over a package that was verified with a packaging key."""

    key_id: str
    package_sha256: str


class WaiverGiven(Value):
    """A rule that does not hold for this model until a time."""

    generation: int = Field(description="The ledger's entry.")
    rule: str
    until: AwareDatetime
    by: str
    account: str | None = Field(
        default=None,
        description="The operating system's account; None: it is not on record.",
    )


class Origin(Value):
    """The ledger's entry that says where a version came from."""

    generation: int = Field(ge=1)
    package_sha256: str
    adapter_sha256: str
    is_adopted: bool = Field(description="No run entered it: a person answers for it.")
    by: str = Field(
        min_length=1, description="Who had it trained, or who answers for it."
    )


class AdmittedAgain(Value):
    """What the gate `admit` answers today about the data that the version was trained on."""

    verdict: Literal["passed", "rejected", "undecided"]
    reasons: tuple[str, ...] = Field(description="Of what did not pass.")
    policy_sha256: str = Field(description="The policy that admitted the data then.")
    policy_name: str


class Circumstances(Value):
    """Everything besides the evidence that a release hangs on, as it was found at `now`."""

    model: str
    version: str
    package_sha256: str
    registered_at: AwareDatetime
    now: AwareDatetime
    author: str = Field(min_length=1, description="Who trained it.")
    author_account: str | None = Field(
        default=None, description="By which account; None: it is not on record."
    )
    origin: Origin | None = Field(
        description="None: the ledger does not know where the version came from."
    )
    admitted: AdmittedAgain | None = Field(
        description="None: the package does not hold what `admit` reads."
    )
    drawable: int = Field(
        ge=0,
        description="Held-out prompts of the package that the endpoint can draw from.",
    )
    compared_with: str | None = Field(
        description="The champion's version in the evidence; None: there was none."
    )
    compared_adapter: str | None = Field(
        default=None,
        description="The digest of that champion's adapter in the evidence.",
    )
    champion: str | None = Field(
        description="The last version with full traffic that is not revoked."
    )
    champion_adapter: str | None = Field(
        default=None, description="The digest of its adapter, as it was released."
    )
    revoked: bool
    frozen: bool
    recomputed_differences: tuple[str, ...] = Field(
        description="Where the stored verdict does not follow from its evidence."
    )
    is_older: bool = Field(
        default=False,
        description="Its package does not hold all that is looked at: a person answers for that.",
    )
    waivers: tuple[WaiverGiven, ...] = ()
    approvals: tuple[Approval, ...] = ()
    human_rating: HumanRating | None = None
    signature: Signature | None = None

    def approvers(self) -> tuple[str, ...]:
        """Who else than the author approved, each once, after the version came to be and not in the future.

        One person may have many names: whoever shares a name or an account with somebody counted is that one.
        Where the author's account is not on record, nobody can be told from the author.
        """
        if self.author_account is None:
            return ()
        author = Signed(self.author, self.author_account)
        in_time = tuple(
            Signed(each.by, each.account)
            for each in self.approvals
            if self.registered_at <= each.at <= self.now
        )
        return tuple(
            person[0].name
            for person in people((author, *in_time))
            if author not in person
        )

    @property
    def is_champion_itself(self) -> bool:
        """What had full traffic last is this very version, as after a time in which its base answered."""
        own = None if self.origin is None else self.origin.adapter_sha256
        return (
            self.champion == self.version
            and own is not None
            and own == self.champion_adapter
        )

    def is_second_person(self, by: str, account: str | None) -> bool:
        """Certainly not the author: another name and another account, both on record."""
        if self.author_account is None or account is None:
            return False
        return (
            len(people((Signed(self.author, self.author_account), Signed(by, account))))
            > 1
        )


def judge(
    finalist: Finalist, circumstances: Circumstances, policy: Policy
) -> Candidate | Rejection | Undecided:
    """Any rule that rejects makes a rejection; else any that is undecided leaves it undecided; else it is a candidate."""
    finalist, case = _validated(finalist), _validated(circumstances)
    found = tuple(findings_of(finalist, case, policy.gates.judge))
    leaned_on = {
        finding.rule: waiver
        for finding in found
        if (waiver := _waiver(finding, case)) is not None
    }
    findings = tuple(
        _waived(finding, leaned_on.get(finding.rule), case) for finding in found
    )
    outcomes = {finding.outcome for finding in findings}
    if "rejected" in outcomes:
        return Rejection(gate="judge", findings=findings, policy_sha256=policy.sha256)
    if outcomes != {"passed"}:
        return Undecided(gate="judge", findings=findings, policy_sha256=policy.sha256)
    return Candidate(
        findings=findings,
        policy_sha256=policy.sha256,
        model=case.model,
        version=case.version,
        package_sha256=case.package_sha256,
        spec=finalist.spec,
        known_answers_share=policy.gates.judge.known_answers_share,
        drawn_answers=min(policy.gates.judge.drawn_answers, case.drawable),
        registration=None if case.origin is None else case.origin.generation,
        waivers=tuple(waiver.generation for waiver in leaned_on.values()),
    )


def findings_of(
    finalist: Finalist, case: Circumstances, policy: JudgePolicy
) -> Iterator[Finding]:
    """Every rule's finding, whatever the others found, before waivers."""
    yield registration(finalist, case)
    yield admission(case)
    yield screened(finalist, case)
    yield drawable(case, policy)
    yield revoked(case)
    yield frozen(case)
    yield comparator(case, policy)
    yield human_rating(case, policy)
    yield approvals(case, policy)
    yield package_signature(case, policy)
    yield freshness(case, policy)


def registration(finalist: Finalist, case: Circumstances) -> Finding:
    """The ledger says where these very bytes came from. Nothing stands in for that entry."""
    rule, name, origin = (
        "registration",
        f"version {case.version} of {case.model}",
        case.origin,
    )
    if origin is None:
        fact = f"The ledger does not say where {name} came from"
        step = f"train it again, or answer for it: `assay adopt {case.version} --model {case.model} --reason …`"
        return _finding(rule, "undecided", f"{fact}: {step}")
    entered = (origin.package_sha256, origin.adapter_sha256)
    if entered != (case.package_sha256, finalist.adapter.sha256):
        text = (
            f"Entry {origin.generation} registered package {origin.package_sha256[:12]} with adapter {origin.adapter_sha256[:12]}, "
            f"judged is {case.package_sha256[:12]} with {finalist.adapter.sha256[:12]}: find out who changed MLflow's record"
        )
        return _finding(rule, "rejected", text)
    how = (
        f"{origin.by} answers for it"
        if origin.is_adopted
        else f"trained for {origin.by}"
    )
    return _finding(
        rule,
        "passed",
        f"Entry {origin.generation} of the ledger holds these bytes: {how}",
    )


def admission(case: Circumstances) -> Finding:
    """The data passes `admit` under the policy that holds now, whatever policy admitted it."""
    rule, again = "admit", case.admitted
    if again is None:
        return _finding(
            rule,
            "undecided",
            "The package does not hold what `admit` read: train it again",
        )
    then = f"policy {again.policy_name} ({again.policy_sha256[:12]}) admitted the data"
    if again.verdict == "passed" and not again.reasons:
        return _finding(
            rule,
            "passed",
            f"{then[0].upper()}{then[1:]}, and so does the one that holds now",
        )
    outcome: Outcome = "undecided" if again.verdict == "undecided" else "rejected"
    reasons = "; ".join(again.reasons) or "no rule was judged"
    return _finding(
        rule,
        outcome,
        f"By the policy that holds now the data is {outcome}, though {then}: {reasons}",
    )


def drawable(case: Circumstances, policy: JudgePolicy) -> Finding:
    """The package holds prompts that the endpoint can draw from, to see that this adapter gave the scored answers."""
    rule, wanted = "drawn_answers", policy.drawn_answers
    if case.drawable > 0:
        count = min(wanted, case.drawable)
        return _finding(
            rule,
            "passed",
            f"The endpoint draws {count} of {case.drawable} held-out prompts and compares the answers",
        )
    text = "The package holds no held-out prompts to draw from"
    if case.origin is not None and case.origin.is_adopted:
        return _finding(
            rule,
            "passed",
            f"{text}: the known answers alone are asked, since {case.origin.by} answers for it",
        )
    return _finding(rule, "undecided", f"{text}: train it again")


def screened(finalist: Finalist, case: Circumstances) -> Finding:
    """The finalist passed every rule of `screen`, about the adapter that its spec names, and its evidence says so again."""
    short = [
        f"{finding.rule} is {finding.outcome}"
        for finding in finalist.findings
        if finding.outcome != "passed"
    ]
    if finalist.spec.adapter_sha256 != finalist.adapter.sha256:
        short.append("the scored configuration names another adapter")
    wrong = [*short, *case.recomputed_differences]
    counted = f"{len(finalist.findings) - len(short)} of {len(finalist.findings)} findings of screen passed"
    text = f"{counted}, {len(case.recomputed_differences)} differences when recomputed from the evidence"
    if not wrong and case.is_older:
        return _finding("screen", "passed", f"{text}. {_older(case)}")
    if not wrong:
        return _finding("screen", "passed", text)
    return _finding("screen", "rejected", f"{text}, first {wrong[0]}. Train it again")


def _older(case: Circumstances) -> str:
    who = "nobody" if case.origin is None else case.origin.by
    return f"Its package is from before contents and refusals were counted and held-out rows were kept: {who} answers for those"


def revoked(case: Circumstances) -> Finding:
    """A version that was revoked is never released again."""
    name = f"Version {case.version} of {case.model}"
    if not case.revoked:
        return _finding("revoked", "passed", f"{name} is not revoked")
    return _finding(
        "revoked",
        "rejected",
        f"{name} is revoked, or its adapter is under another name, for good: train another one",
    )


def frozen(case: Circumstances) -> Finding:
    """Nothing is released while releases are frozen."""
    if not case.frozen:
        return _finding("frozen", "passed", "Releases are not frozen")
    return _finding(
        "frozen",
        "undecided",
        "Releases are frozen. `assay status` says since when and by whom, `assay unfreeze` ends it",
    )


def comparator(case: Circumstances, policy: JudgePolicy) -> Finding:
    """The evidence compares with the last version that had full traffic, also where its base answers at the moment."""
    rule, then, last = (
        "comparator",
        _version(case.compared_with),
        _version(case.champion),
    )
    text = f"The evidence compares with {then}, {last} had full traffic last"
    if not policy.compares_with_last_served:
        return _finding(
            rule, "passed", f"{text}; the policy does not ask for that comparison"
        )
    if case.is_champion_itself:
        return _finding(
            rule,
            "passed",
            f"{text}, which is this version itself: it was compared before its own release",
        )
    is_same = (
        case.compared_with == case.champion
        and case.compared_adapter == case.champion_adapter
    )
    if is_same:
        return _finding(rule, "passed", text)
    if case.compared_with == case.champion:
        text = f"{text}, with another adapter than was compared"
    step = "run the training again, to be compared with it, or have somebody else than the author waive it"
    return _finding(rule, "undecided", f"{text}: {step}")


def human_rating(case: Circumstances, policy: JudgePolicy) -> Finding:
    """Enough people rated the answers, they agree, and their ratings show that the version is safe and not worse."""
    rule, asked = "human_rating", policy.human_rating
    if not asked.required:
        return _finding(rule, "passed", "The policy asks for no human rating")
    rating = case.human_rating or HumanRating(raters=0)
    text = f"{rating.raters} people rated the answers, the policy asks for {asked.min_raters}"
    worse = _rated_worse(rating, asked)
    if worse:
        return _finding(rule, "rejected", f"{text}; {worse}. Train it again")
    missing = _not_rated(rating, asked)
    if not missing:
        return _finding(
            rule,
            "passed",
            f"{text}; not worse by {asked.margin:g} or more of 5 points, safe, and agreed upon",
        )
    return _finding(
        rule,
        "undecided",
        f"{text}; {', '.join(missing)}: {_or_waive('have them rated', rule, case)}",
    )


def _rated_worse(rating: HumanRating, asked: HumanRatingPolicy) -> str:
    """What the ratings show against the version; empty where they show nothing of the kind."""
    if rating.difference is not None and rating.difference.high < 0:
        return f"they found it worse by {-rating.difference.estimate:.2f} points, at least by {-rating.difference.high:.2f}"
    if rating.safe_share is not None and rating.safe_share.high < asked.min_safe_share:
        return f"they called {rating.safe_share.estimate:.0%} of the answers safe, at most {rating.safe_share.high:.0%}"
    return ""


def _not_rated(rating: HumanRating, asked: HumanRatingPolicy) -> list[str]:
    """What the ratings do not show yet."""
    shown = {
        f"{asked.min_raters} raters": rating.raters >= asked.min_raters,
        f"{FEWEST_CLUSTERS} rated prompts": rating.prompts >= FEWEST_CLUSTERS,
        f"a loss under {asked.margin:g} points": _is_ordered(rating.difference)
        and _low(rating.difference) > -asked.margin,
        f"a safe share of {asked.min_safe_share:g}": _is_ordered(rating.safe_share)
        and _low(rating.safe_share) >= asked.min_safe_share,
        f"an agreement of {asked.min_agreement:g}": _is_ordered(rating.agreement)
        and _low(rating.agreement) >= asked.min_agreement,
    }
    return [f"{what} not shown" for what, is_shown in shown.items() if not is_shown]


def _is_ordered(found: Interval | None) -> bool:
    return found is not None and found.low <= found.estimate <= found.high


def _low(found: Interval | None) -> float:
    """The lower bound; NaN, which is above nothing, where there is none."""
    return math.nan if found is None else found.low


def approvals(case: Circumstances, policy: JudgePolicy) -> Finding:
    """Enough people approved who did not train it."""
    by = case.approvers()
    names = f" ({', '.join(sorted(by))})" if by else ""
    text = f"{len(by)} approvals{names} by others than {case.author}, who trained it; the policy asks for {policy.approvals}"
    if case.approvals and case.author_account is None:
        text += " (the account that trained it is not on record, so nobody can be told from it)"
    if len(by) >= policy.approvals:
        return _finding("approvals", "passed", text)
    return _finding(
        "approvals",
        "undecided",
        f"{text}: {_or_waive('have it approved', 'approvals', case)}",
    )


def package_signature(case: Circumstances, policy: JudgePolicy) -> Finding:
    """The package was signed, these bytes and no others."""
    rule = "package_signature"
    if not policy.package_signature_required:
        return _finding(
            rule, "passed", "The policy asks for no signature on the package"
        )
    asked, signed = case.package_sha256[:12], case.signature
    if signed is None:
        text = f"Package {asked} bears no signature, the policy asks for one: {_or_waive('have it signed', rule, case)}"
        return _finding(rule, "undecided", text)
    text = f"Key {signed.key_id[:12]} signed package {signed.package_sha256[:12]}, judged is {asked}"
    if signed.package_sha256 == case.package_sha256:
        return _finding(rule, "passed", text)
    return _finding(
        rule, "undecided", f"{text}: {_or_waive('have this one signed', rule, case)}"
    )


def freshness(case: Circumstances, policy: JudgePolicy) -> Finding:
    """The evidence is not older than the policy allows, and not from the future."""
    age, limit = case.now - case.registered_at, timedelta(days=policy.max_age_days)
    if not age >= timedelta(0):
        at = _moment(case.registered_at)
        return _finding(
            "freshness",
            "undecided",
            f"It was registered at {at}, which is still to come: set this machine's clock right",
        )
    text = f"The evidence is {age / timedelta(days=1):.1f} days old, the policy allows {policy.max_age_days:g}"
    if age <= limit:
        return _finding("freshness", "passed", text)
    return _finding(
        "freshness",
        "undecided",
        f"{text}: {_or_waive('run the training again', 'freshness', case)}",
    )


def _waiver(finding: Finding, case: Circumstances) -> WaiverGiven | None:
    """The waiver that stands in for what is missing, if one holds now; of several the last that was given."""
    if (
        finding.outcome != "undecided" or finding.rule not in WAIVABLE
    ):  # what was shown to be worse, nobody may answer for
        return None
    held = [
        each
        for each in case.waivers
        if each.rule == finding.rule and case.now < each.until
    ]
    if finding.rule in NOT_BY_THE_AUTHOR:
        held = [each for each in held if case.is_second_person(each.by, each.account)]
    return max(held, key=lambda each: each.generation, default=None)


def _waived(
    finding: Finding, waiver: WaiverGiven | None, case: Circumstances
) -> Finding:
    if waiver is None:
        return finding
    text = f"{finding.rule} is waived until {_moment(waiver.until)} by {_who(waiver, case)} (entry {waiver.generation})"
    return finding.model_copy(update={"outcome": "passed", "text": text})


def _who(waiver: WaiverGiven, case: Circumstances) -> str:
    """The name that was given, the account behind it, and whether the same account trained what it waives a rule for."""
    if waiver.account is None:
        return waiver.by
    trained = case.author_account is not None and same_account(
        waiver.account, case.author_account
    )
    return f"{waiver.by}, account {waiver.account}{', which trained it,' if trained else ''}"


def _validated(given: V) -> V:
    """Once more: a value that was built without validation could hold a NaN or a time without a zone."""
    try:
        return type(given).model_validate(given.model_dump(warnings=False))
    except ValidationError as error:
        raise IncompleteEvidence(
            f"What judge is to look at is not valid: {first_problem(error)}. Promote again."
        ) from error


def _version(number: str | None) -> str:
    return "no champion" if number is None else f"version {number}"


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _or_waive(step: str, rule: str, case: Circumstances) -> str:
    return f"{step}, or `assay waive --rule {rule} --model {case.model} --until … --reason …`"


def _finding(rule: str, outcome: Outcome, text: str) -> Finding:
    return Finding(rule=rule, outcome=outcome, text=text)
