"""Whether people, or a model that rates as they do, found the version safe and good enough."""

import math

from pipelines.gates.admit_policy import HALF
from pipelines.gates.policy import FEWEST_CLUSTERS, HumanRatingPolicy, JudgePolicy
from pipelines.values.dataset import Interval
from pipelines.values.verdict import Finding
from registry.release.judging.circumstances import Circumstances, HumanRating
from registry.release.judging.findings import passed, rejected, undecided
from registry.release.judging.waivers import offer_waiver
from registry.release.rated_by_model import (
    describe_model_rating,
    find_model_objection,
    missing_of_model,
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
        return rejected(rule, f"In people's place {text}; {objection}. {step}")
    missing = missing_of_model(by_model, policy, case.now)
    if missing:
        reasons = "; ".join(missing)
        sentence = f"It was {text}, which does not stand in for them: {reasons}"
        return _add(by_people, sentence)
    return passed(rule, f"In people's place {text}")


def _add(finding: Finding, sentence: str) -> Finding:
    return finding.model_copy(update={"text": f"{finding.text}. {sentence}"})


def check_human_rating(case: Circumstances, policy: JudgePolicy) -> Finding:
    """Enough people rated the answers, agree, and show the version to be safe and not worse."""
    rule, limits = "human_rating", policy.human_rating
    if not limits.required:
        return passed(rule, "The policy asks for no human rating")
    # No rating is one by nobody: it shows nothing, so that no requirement is met.
    rating = case.human_rating or HumanRating(raters=0)
    text = f"{rating.raters} people rated the answers, the policy asks for {limits.min_raters}"
    text += _describe_ratings(rating)
    # What is shown to be worse is a no, however many people are still missing.
    objection = find_objection(rating, limits)
    if objection:
        return rejected(rule, f"{text}; {objection}. Train it again")
    missing = ", ".join(_missing_ratings(rating, limits))
    if missing:
        step = offer_waiver("have them rated", rule, case)
        return undecided(rule, f"{text}; {missing}: {step}")
    shown = f"not worse by {limits.margin:g} or more of 5 points"
    if limits.wants == "superior":
        shown = "better"
    agreed = "" if limits.min_agreement is None else ", and agreed upon"
    return passed(rule, f"{text}; {shown}, safe{agreed}")


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
