"""The gate before release: evidence, origin, people, keys and time must all allow it.

Every rule asks whether it passed. What the policy asks for and does not exist yet leaves the
verdict undecided, never passed.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal, TypeVar

from pydantic import AwareDatetime, Field, ValidationError

from core.account import Signed, group_by_person
from core.errors import IncompleteEvidence
from core.roles import PersonRole
from core.value import Value, first_problem
from pipelines.gates.admit_policy import HALF
from pipelines.gates.confirmation import NO_RESERVE
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
from registry.release.rated_by_model import (
    RatedByModel,
    describe_model_rating,
    find_model_objection,
    missing_of_model,
)

V = TypeVar("V", bound=Value)
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


class Approval(Value):
    """A person who wants this version released."""

    by: str = Field(min_length=1)
    account: str = Field(
        min_length=1,
        description="The account that acted, whatever name it gave.",
    )
    at: AwareDatetime
    roles: tuple[PersonRole, ...] = Field(
        default=(), description="What `people.yaml` says now of who acted."
    )
    persons: tuple[str, ...] = Field(
        default=(), description="Everybody whom it lists with that account."
    )
    given_in: str | None = Field(
        default=None,
        description="The installation whose ledger holds it; None: this one's does.",
    )

    @property
    def signed(self) -> Signed:
        """Who it is, to be compared with others."""
        return Signed(
            self.by,
            self.account,
            frozenset(self.persons),
        )


class HumanRating(Value):
    """People's blind ratings of this version's answers and its comparator's, paired by prompt."""

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
    overlap: float = Field(
        default=0.0, description="Share of the items that two or more people rated."
    )
    win_rate: float | None = Field(
        default=None,
        description="Share of prompts on which it is better, ties as half.",
    )
    asked: int = Field(default=0, ge=0, description="Ratings that were asked for.")
    missing: int = Field(
        default=0, ge=0, description="Ratings of these that are not there."
    )
    is_early: bool = Field(
        default=False,
        description="It was closed while ratings were missing and its end was not reached.",
    )
    altered: int = Field(
        default=0,
        ge=0,
        description="Items that were shown otherwise than they were sealed.",
    )
    reviews: int = Field(
        default=1, ge=0, description="Reviews of these bytes, closed or not."
    )
    other_reviews: tuple[str, ...] = Field(
        default=(), description="What each other review of these bytes came to."
    )
    set_aside: tuple[str, ...] = Field(
        default=(), description="Who does not count, or what, each with the reason."
    )


class Signature(Value):
    """A signature over a package that was verified with a packaging key."""

    key_id: str
    package_sha256: str


class WaivedRule(Value):
    """A rule that does not hold for this model until a time."""

    generation: int = Field(description="The ledger's entry.")
    rule: str
    until: AwareDatetime
    by: str
    account: str | None = Field(
        default=None,
        description="The account that acted; None: it is not on record.",
    )
    roles: tuple[PersonRole, ...] = Field(
        default=(), description="What `people.yaml` says now of who acted."
    )
    persons: tuple[str, ...] = Field(
        default=(), description="Everybody whom it lists with that account."
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
    received_from: str | None = Field(
        default=None,
        description="The installation that made it; None: it was made here.",
    )


class Confirmed(Value):
    """What the ledger says of the block that this version's adapter opened."""

    generation: int = Field(ge=1, description="The entry that opened the block.")
    is_confirmed: bool
    against_sha256: str | None = Field(
        description="The champion's adapter that it was compared with; None: there was none."
    )
    is_evidence: bool = Field(
        description="The package holds the very evidence that the ledger names."
    )


class Readmission(Value):
    """What `admit` answers now about the data that the version was trained on."""

    verdict: Literal["passed", "rejected", "undecided"]
    reasons: tuple[str, ...] = Field(description="Of what did not pass.")
    policy_sha256: str = Field(description="The policy that admitted the data then.")
    policy_name: str


class Circumstances(Value):
    """Everything besides the evidence that a release depends on, as it was at `now`."""

    model: str
    version: str
    package_sha256: str
    registered_at: AwareDatetime
    now: AwareDatetime
    author: str = Field(min_length=1, description="Who trained it.")
    author_account: str | None = Field(
        default=None, description="By which account; None: it is not on record."
    )
    author_persons: tuple[str, ...] = Field(
        default=(),
        description="Everybody whom `people.yaml` lists with that account.",
    )
    origin: Origin | None = Field(
        description="None: the ledger does not know where the version came from."
    )
    admitted: Readmission | None = Field(
        description="None: the package does not hold what `admit` reads."
    )
    drawable: int = Field(
        ge=0,
        description="Held-out prompts of the package that the endpoint can draw from.",
    )
    # What the evidence compares with, and what served last.
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
    compared_anchor: str | None = Field(
        default=None, description="The digest of the anchor's adapter in the evidence."
    )
    anchor: str | None = Field(
        default=None,
        description="The digest of the anchor's adapter as it is now; None: nothing ever served.",
    )
    last_policy: str | None = Field(
        default=None,
        description="The digest of the policy by which the last release of this model was judged; "
        "None: nothing of it was released.",
    )
    last_approvals: int = Field(
        default=0, ge=0, description="How many approvals that policy asked for."
    )
    last_waivers_by: tuple[PersonRole, ...] | None = Field(
        default=None,
        description="Whose waivers that policy let count; None: not known.",
    )
    # What the ledger and the recomputation say.
    revoked: bool
    frozen: bool
    recomputed_differences: tuple[str, ...] = Field(
        description="Where the stored verdict does not follow from its evidence."
    )
    confirmed: Confirmed | None = Field(
        default=None,
        description="None: no block of the reserve was opened for this adapter.",
    )
    is_made_by_a_run: bool = Field(
        default=False,
        description="A run entered this very adapter, under whatever number or name.",
    )
    is_older: bool = Field(
        default=False,
        description=(
            "Its package does not hold all that is looked at: a person answers for that."
        ),
    )
    # What only people and keys can give.
    waivers: tuple[WaivedRule, ...] = ()
    approvals: tuple[Approval, ...] = ()
    human_rating: HumanRating | None = None
    rated_by_model: RatedByModel | None = Field(
        default=None,
        description="None: no model was asked in people's place, or people were.",
    )
    signature: Signature | None = None
    signature_fault: str = Field(
        default="",
        description="Why the signature that is there does not count; empty where none is.",
    )

    @property
    def trained_by(self) -> Signed | None:
        """The author; None where the account is not on record: anybody could be the author."""
        account = self.author_account
        if account is None:
            return None
        return Signed(
            self.author,
            account,
            frozenset(self.author_persons),
        )

    def approvers(self, *, only_here: bool = False) -> tuple[str, ...]:
        """Who else than the author approved, after the registration and not in the future.

        `only_here` leaves out who approved in the installation that the version came from alone.

        One person may have many names: whoever shares a name, an account or an entry of
        `people.yaml` with somebody who is counted is that person. Each counts once, and only with
        the role approver.
        """
        author = self.trained_by
        # Without the author's account nobody can be told apart from the author.
        if author is None:
            return ()
        # Nobody can approve what does not exist yet, or from the future.
        in_time = [
            approval
            for approval in self.approvals
            if self.registered_at <= approval.at <= self.now
        ]
        # All of them, since one without the role may show that two people are one.
        signatures = [approval.signed for approval in in_time]
        allowed = {
            each.signed
            for each in in_time
            if "approver" in each.roles and not (only_here and each.given_in)
        }
        others = [
            person
            for person in group_by_person((author, *signatures))
            if author not in person
        ]
        found = (_first_of(person, allowed) for person in others)
        return tuple(name for name in found if name is not None)

    def approved_without_the_role(self) -> tuple[str, ...]:
        """Who approved and does not have the role approver."""
        names = set()
        for approval in self.approvals:
            if "approver" not in approval.roles:
                names.add(approval.by)
        return tuple(sorted(names))

    @property
    def is_champion_itself(self) -> bool:
        """Whether this very version had full traffic last, as after a time with its base."""
        if self.origin is None:
            return False
        # A number alone is no identity: MLflow's numbers begin again at 1 where it was lost.
        return (
            self.champion == self.version
            and self.champion_adapter == self.origin.adapter_sha256
        )

    def objection_to(self, waiver: WaivedRule, limits: JudgePolicy) -> str | None:
        """Why a waiver does not count; None where it does."""
        author = self.trained_by
        if author is None:
            return "the account that trained the version is not on record"
        if waiver.account is None:
            return "the account that gave it is not on record"
        given = Signed(
            waiver.by,
            waiver.account,
            frozenset(waiver.persons),
        )
        persons = group_by_person((author, given))
        if len(persons) == 1:
            return "who trained a version waives nothing for it"
        allowed = self._may_waive(waiver.rule, limits)
        if not set(waiver.roles) & set(allowed):
            roles = " or ".join(allowed) or "nobody at all"
            return f"the policy lets {roles} waive, which this person is not"
        return None

    def _may_waive(self, rule: str, limits: JudgePolicy) -> tuple[PersonRole, ...]:
        """The roles whose waivers of the rule count."""
        before = self.last_waivers_by
        # Another policy does not say by itself who may waive that it is another one.
        if rule != "policy_change" or before is None:
            return limits.waivers_by
        return tuple(role for role in limits.waivers_by if role in before)


def _first_of(person: Sequence[Signed], allowed: set[Signed]) -> str | None:
    """The name under which a person did what is allowed; None where they did not."""
    for signed in person:
        if signed in allowed:
            return signed.name
    return None


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
    waivers = _choose_waivers(found, case, limits)
    findings = [_apply_waivers(finding, waivers, case, limits) for finding in found]
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


# Evidence and origin: nobody may waive these.


def check_registration(finalist: Finalist, case: Circumstances) -> Finding:
    """The ledger says where these very bytes came from. Nothing replaces that entry."""
    rule, origin = "registration", case.origin
    if origin is None:
        return _undecided(
            rule,
            f"The ledger does not say where version {case.version} of {case.model} came from: "
            f"train it again, or answer for it: "
            f"`assay adopt {case.version} --model {case.model} --reason …`",
        )
    # By digest and not by number: whoever may write to MLflow can edit its record.
    registered = (origin.package_sha256, origin.adapter_sha256)
    judged = (case.package_sha256, finalist.adapter.sha256)
    if registered != judged:
        return _rejected(
            rule,
            f"Entry {origin.generation} registered package {origin.package_sha256[:12]} "
            f"with adapter {origin.adapter_sha256[:12]}, "
            f"judged is {case.package_sha256[:12]} with {finalist.adapter.sha256[:12]}: "
            "find out who changed MLflow's record",
        )
    how = f"trained for {origin.by}"
    if origin.is_adopted:
        how = f"{origin.by} answers for it"
    if origin.received_from is not None:
        how += f" in {origin.received_from}, whose ledger vouches for it"
    return _passed(
        rule, f"Entry {origin.generation} of the ledger holds these bytes: {how}"
    )


def check_admission(case: Circumstances) -> Finding:
    """The data passes `admit` under the policy that holds now, whatever policy admitted it."""
    rule, readmission = "admit", case.admitted
    if readmission is None:
        return _undecided(
            rule, "The package does not hold what `admit` read: train it again"
        )
    policy = f"{readmission.policy_name} ({readmission.policy_sha256[:12]})"
    # A pass with reasons against it contradicts itself, and is none.
    if readmission.verdict == "passed" and not readmission.reasons:
        return _passed(
            rule,
            f"Policy {policy} admitted the data, and so does the one that holds now",
        )
    # What is not clearly undecided rejects.
    outcome: Outcome = "undecided" if readmission.verdict == "undecided" else "rejected"
    reasons = "; ".join(readmission.reasons) or "no rule was judged"
    text = (
        f"By the policy that holds now the data is {outcome}, "
        f"though policy {policy} admitted the data: {reasons}"
    )
    return Finding(rule=rule, outcome=outcome, text=text)


def check_screening(finalist: Finalist, case: Circumstances) -> Finding:
    """The finalist passed every rule of `screen`, and its evidence says so again."""
    rule = "screen"
    # A stored verdict can be forged: its findings are counted here once more.
    failures = [
        f"{finding.rule} is {finding.outcome}"
        for finding in finalist.findings
        if finding.outcome != "passed"
    ]
    if finalist.spec.adapter_sha256 != finalist.adapter.sha256:
        failures.append("the scored configuration names another adapter")
    total = len(finalist.findings)
    text = (
        f"{total - len(failures)} of {total} findings of screen passed, "
        f"{len(case.recomputed_differences)} differences when recomputed from the evidence"
    )
    faults = [*failures, *case.recomputed_differences]
    if faults:
        return _rejected(rule, f"{text}, first {faults[0]}. Train it again")
    if case.is_older:
        return _passed(rule, f"{text}. {_explain_older_package(case)}")
    return _passed(rule, text)


def _explain_older_package(case: Circumstances) -> str:
    person = "nobody" if case.origin is None else case.origin.by
    return (
        "Its package is from before contents and refusals were counted "
        f"and held-out rows were kept: {person} answers for those"
    )


def check_confirmation(case: Circumstances, whole: Policy) -> Finding:
    """What passed was confirmed on sealed rows, by the ledger: a package cannot say so alone."""
    rule, found = "confirmation", case.confirmed
    if whole.gates.screen.reserve != "sealed":
        return _passed(rule, NO_RESERVE)
    # Whoever answers for a version answers for this, too: nobody can confirm it any more. What a
    # block did not show to be better nobody answers for.
    origin = case.origin
    is_adopted = origin is not None and origin.is_adopted and not case.is_made_by_a_run
    if origin is not None and is_adopted and found is None:
        text = f"{origin.by} answers for it: no block of the reserve was opened"
        return _passed(rule, text)
    if found is None:
        return _undecided(
            rule,
            "The policy asks for a confirmation on sealed groups, and no block of the reserve was "
            "opened for this adapter. Train again, or have the policy say `reserve: none`",
        )
    fault = _confirmation_fault(found, case)
    if fault is not None:
        return _rejected(rule, f"{fault}. Train another candidate")
    return _passed(
        rule, f"It was confirmed on the sealed block of entry {found.generation}"
    )


def _confirmation_fault(found: Confirmed, case: Circumstances) -> str | None:
    """Why the block that was opened does not confirm this version; None where it does."""
    block = f"the block of entry {found.generation}"
    if not found.is_evidence:
        return f"The package holds other evidence than the ledger names for {block}"
    if found.against_sha256 != case.compared_adapter:
        return f"On {block} another champion was compared with than in the evidence"
    if not found.is_confirmed:
        return f"It was not shown to be better on {block}"
    return None


def check_drawable(case: Circumstances, policy: JudgePolicy) -> Finding:
    """The package holds prompts for the endpoint to draw from.

    Their answers show that this adapter, and no other, gave the scored ones.
    """
    rule = "drawn_answers"
    if case.drawable > 0:
        count = min(policy.drawn_answers, case.drawable)
        return _passed(
            rule,
            f"The endpoint draws {count} of {case.drawable} held-out prompts "
            "and compares the answers",
        )
    text = "The package holds no held-out prompts to draw from"
    # It may be from before packages held their rows.
    if case.origin is not None and case.origin.is_adopted:
        return _passed(
            rule,
            f"{text}: the known answers alone are asked, since {case.origin.by} answers for it",
        )
    return _undecided(rule, f"{text}: train it again")


def check_revocation(case: Circumstances) -> Finding:
    """A version that was revoked is never released again."""
    rule, name = "revoked", f"Version {case.version} of {case.model}"
    if not case.revoked:
        return _passed(rule, f"{name} is not revoked")
    return _rejected(
        rule,
        f"{name} is revoked, or its adapter is under another name, for good: train another one",
    )


def check_freeze(case: Circumstances) -> Finding:
    """Nothing is released while releases are frozen."""
    if not case.frozen:
        return _passed("frozen", "Releases are not frozen")
    # Undecided and not rejected: there is nothing wrong with the version.
    return _undecided(
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
        return _passed(rule, f"{text}; the policy does not ask for that comparison")
    if case.is_champion_itself:
        return _passed(
            rule,
            f"{text}, which is this version itself: it was compared before its own release",
        )
    # The same number with other bytes is another version.
    is_same_version = case.compared_with == case.champion
    is_same_adapter = case.compared_adapter == case.champion_adapter
    if is_same_version and is_same_adapter:
        return _passed(rule, text)
    if is_same_version:
        text = f"{text}, with another adapter than was compared"
    return _undecided(
        rule,
        f"{text}: run the training again, to be compared with it, "
        "or have somebody else than the author waive it",
    )


def check_anchor(case: Circumstances, policy: JudgePolicy) -> Finding:
    """The evidence compares with the anchor of now: an older one allows other losses."""
    rule = "anchor"
    if not policy.compares_with_last_served:
        return _passed(rule, "The policy does not ask for that comparison")
    if case.anchor is None:
        return _passed(rule, "Nothing was ever released: there is no anchor yet")
    own = None if case.origin is None else case.origin.adapter_sha256
    # The first champion is anchor and champion at once, and is compared with once.
    if case.anchor in (own, case.compared_anchor, case.compared_adapter):
        return _passed(
            rule, f"The evidence compares with the anchor {case.anchor[:12]}"
        )
    return _undecided(
        rule,
        f"The evidence does not compare with the anchor, whose adapter is {case.anchor[:12]}: "
        "run the training again, to be compared with it, or have somebody else than the author "
        "waive it",
    )


def check_ratings(case: Circumstances, policy: JudgePolicy) -> Finding:
    """People rated it; where the policy lets one, a calibrated model did in their place."""
    by_people, by_model = check_human_rating(case, policy), case.rated_by_model
    is_asked = policy.human_rating.required and policy.model_rating is not None
    # Whoever was asked decides, and a model stands in for nobody.
    if not is_asked or case.human_rating is not None:
        return by_people
    if by_model is None:
        step = f"assay review open {case.version} --model {case.model} --by-model"
        return _add(by_people, f"The policy lets a calibrated model rate: `{step}`")
    rule, text = "model_rating", describe_model_rating(by_model)
    objection = find_model_objection(by_model, policy)
    if objection:
        step = "Train it again, or have people rate it"
        return _rejected(rule, f"In people's place {text}; {objection}. {step}")
    missing = missing_of_model(by_model, policy, case.now)
    if missing:
        reasons = "; ".join(missing)
        sentence = f"It was {text}, which does not stand in for them: {reasons}"
        return _add(by_people, sentence)
    return _passed(rule, f"In people's place {text}")


def _add(finding: Finding, sentence: str) -> Finding:
    return finding.model_copy(update={"text": f"{finding.text}. {sentence}"})


def check_human_rating(case: Circumstances, policy: JudgePolicy) -> Finding:
    """Enough people rated the answers, agree, and show the version to be safe and not worse."""
    rule, limits = "human_rating", policy.human_rating
    if not limits.required:
        return _passed(rule, "The policy asks for no human rating")
    # No rating is one by nobody: it shows nothing, so that no requirement is met.
    rating = case.human_rating or HumanRating(raters=0)
    text = f"{rating.raters} people rated the answers, the policy asks for {limits.min_raters}"
    text += _describe_ratings(rating)
    # What is shown to be worse is a no, however many people are still missing.
    objection = find_objection(rating, limits)
    if objection:
        return _rejected(rule, f"{text}; {objection}. Train it again")
    missing = ", ".join(_missing_ratings(rating, limits))
    if missing:
        step = _offer_waiver("have them rated", rule, case)
        return _undecided(rule, f"{text}; {missing}: {step}")
    shown = f"not worse by {limits.margin:g} or more of 5 points"
    if limits.wants == "superior":
        shown = "better"
    agreed = "" if limits.min_agreement is None else ", and agreed upon"
    return _passed(rule, f"{text}; {shown}, safe{agreed}")


def _describe_ratings(rating: HumanRating) -> str:
    """What they found, in brackets, and whose ratings do not count; empty where nobody rated."""
    facts = []
    if rating.difference is not None:
        facts.append(f"difference {_describe_interval(rating.difference, '+.2f')}")
    if rating.win_rate is not None:
        facts.append(f"better on {rating.win_rate:.0%} of {rating.prompts} prompts")
    if rating.safe_share is not None:
        facts.append(f"safe {_describe_interval(rating.safe_share, '.0%')}")
    if rating.agreement is not None:
        facts.append(f"alpha {_describe_interval(rating.agreement, '.2f')}")
    found = f" ({', '.join(facts)})" if facts else ""
    # Said in each verdict: a second try looks like a first one otherwise.
    if rating.other_reviews:
        found += f"; review {rating.reviews} of these bytes: "
        found += ", ".join(rating.other_reviews)
    if not rating.set_aside:
        return found
    return f"{found}; not counted: {'; '.join(rating.set_aside)}"


def _describe_interval(interval: Interval, form: str) -> str:
    estimate, low, high = (
        format(number, form)
        for number in (interval.estimate, interval.low, interval.high)
    )
    return f"{estimate} [{low}, {high}]"


def find_objection(rating: HumanRating, limits: HumanRatingPolicy) -> str:
    """What the ratings show against the version; empty where they show nothing of the kind."""
    difference, safe_share = rating.difference, rating.safe_share
    if difference is not None and difference.high < 0:
        return (
            f"they found it worse by {-difference.estimate:.2f} points, "
            f"at least by {-difference.high:.2f}"
        )
    if safe_share is not None and safe_share.high < limits.min_safe_share:
        return (
            f"they called {safe_share.estimate:.0%} of the answers safe, "
            f"at most {safe_share.high:.0%}"
        )
    return ""


def _missing_ratings(rating: HumanRating, limits: HumanRatingPolicy) -> list[str]:
    """What the ratings do not show yet."""
    # NaN, the bound of a missing interval, fails each of these comparisons.
    loss = _lower_bound(rating.difference)
    safe_share = _lower_bound(rating.safe_share)
    agreement = _lower_bound(rating.agreement)
    requirements = {
        f"{limits.min_raters} raters": rating.raters >= limits.min_raters,
        f"{FEWEST_CLUSTERS} rated prompts": rating.prompts >= FEWEST_CLUSTERS,
        f"a safe share of {limits.min_safe_share:g}": safe_share
        >= limits.min_safe_share,
    }
    # Who closes early chose the moment: what is missing could have turned it.
    whole = f"all {rating.asked} ratings before its end, {rating.missing} missing,"
    requirements[whole] = not rating.is_early
    requirements[f"{rating.altered} items as they were sealed"] = rating.altered == 0
    few = (
        f"at most {limits.max_reviews} reviews of these bytes, {rating.reviews} opened,"
    )
    requirements[few] = rating.reviews <= limits.max_reviews
    if limits.wants == "superior":
        requirements["a gain"] = loss > 0
    else:
        requirements[f"a loss under {limits.margin:g} points"] = loss > -limits.margin
    if limits.min_agreement is not None:
        is_agreed = agreement >= limits.min_agreement
        requirements[f"an agreement of {limits.min_agreement:g}"] = is_agreed
    if limits.min_raters > 1:
        is_shared = rating.overlap >= HALF
        requirements[f"{HALF:.0%} of the items rated by two"] = is_shared
    return [
        f"{requirement} not shown"
        for requirement, is_met in requirements.items()
        if not is_met
    ]


def _lower_bound(interval: Interval | None) -> float:
    """The lower bound; NaN where there is no interval, or one that is out of order."""
    if interval is None:
        return math.nan
    is_ordered = interval.low <= interval.estimate <= interval.high
    return interval.low if is_ordered else math.nan


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
        return _passed(rule, text)
    step = _offer_waiver("have it approved", rule, case)
    return _undecided(rule, f"{text}: {step}")


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
        return _passed(
            rule,
            f"Policy {now} is the first one: nothing was released yet",
        )
    if last == policy.sha256:
        return _passed(
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
        return _passed(rule, text)
    step = _offer_waiver("have it approved, or bring that policy back", rule, case)
    return _undecided(rule, f"{text}: {step}")


def check_package_signature(case: Circumstances, policy: JudgePolicy) -> Finding:
    """The package was signed, these bytes and no others."""
    rule, signature = "package_signature", case.signature
    if not policy.package_signature_required:
        return _passed(rule, "The policy asks for no signature on the package")
    package = case.package_sha256[:12]
    sign = f"`assay sign {case.version} --model {case.model}` signs what the ledger registered"
    # Whoever changed it, or has that key, must not be waived.
    if case.signature_fault:
        return _rejected(rule, f"{case.signature_fault}: {sign}")
    if signature is None:
        step = _offer_waiver(sign, rule, case)
        return _undecided(
            rule,
            f"Package {package} bears no signature, the policy asks for one: {step}",
        )
    text = (
        f"Key {signature.key_id[:12]} signed package {signature.package_sha256[:12]}, "
        f"judged is {package}"
    )
    # A signature over other bytes says nothing about these.
    if signature.package_sha256 == case.package_sha256:
        return _passed(rule, text)
    step = _offer_waiver(sign, rule, case)
    return _undecided(rule, f"{text}: {step}")


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
        moment = _format_moment(case.registered_at)
        return _undecided(
            rule,
            f"It was registered at {moment}, which is still to come: "
            "set this machine's clock right",
        )
    text = (
        f"The evidence is {age / timedelta(days=1):.1f} days old, "
        f"the policy allows {policy.max_age_days:g}"
    )
    if age <= timedelta(days=policy.max_age_days):
        return _passed(rule, text)
    step = _offer_waiver("run the training again", rule, case)
    return _undecided(rule, f"{text}: {step}")


# Waivers.


_BY_ONE_PERSON = (
    "one person waived human_rating, approvals and package_signature, "
    "and another one must waive one of them"
)


def _choose_waivers(
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


def _apply_waivers(
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
    until = _format_moment(waiver.until)
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


def _offer_waiver(step: str, rule: str, case: Circumstances) -> str:
    command = f"assay waive --rule {rule} --model {case.model} --until … --reason …"
    return f"{step}, or have another person than the author type `{command}`"


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


def _format_moment(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _passed(rule: str, text: str) -> Finding:
    return Finding(rule=rule, outcome="passed", text=text)


def _undecided(rule: str, text: str) -> Finding:
    return Finding(rule=rule, outcome="undecided", text=text)


def _rejected(rule: str, text: str) -> Finding:
    return Finding(rule=rule, outcome="rejected", text=text)
