"""A review from its opening to the verdict that it leads to, with a real MLflow."""

import json
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from core.files import digest_of_text
from pipelines.rating.collect import SAFE, SCORE
from registry.ledger.entries import Rated, ReviewOpened
from registry.ledger.ledger import open_ledger
from registry.mlflow.connection import REVIEWS
from tests.support.journey import Checkout, CommandResult, copy_checkout, invoke
from tests.support.model_judges import scores, serving
from tests.support.promoted import MODEL
from tests.support.ratings import Opinion, opinion_of
from tests.support.reviewing import PEOPLE, sealed_plan, write, write_all

BETTER, WORSE = opinion_of(5, 2), opinion_of(2, 5)
ALL: dict[str, Any] = {"ann": BETTER, "bob": BETTER, "eve": BETTER}


@pytest.fixture
def site(recorded: Checkout, tmp_path: Path) -> Checkout:
    checkout = copy_checkout(recorded, tmp_path / "assay")
    (checkout.root / "people.yaml").write_text(PEOPLE)
    return checkout


def review(site: Checkout, *words: str) -> CommandResult:
    verb, *more = words
    return invoke(site, "review", verb, "1", "--model", MODEL, *more)


def open_one(site: Checkout, prompts: int = 12) -> None:
    opened = review(site, "open", "--prompts", str(prompts))
    assert opened.code == 0, opened.err


def reviewed(site: Checkout, prompts: int = 12, **opinions: Opinion) -> CommandResult:
    """Open, rate and close."""
    open_one(site, prompts)
    write_all(site.uri, sealed_plan(site.home, MODEL), **opinions)
    return review(site, "close", "--unfinished")


def finding(site: Checkout) -> dict[str, str]:
    """What `judge` says of the ratings."""
    answer = invoke(site, "gate", "judge", f"models:/{MODEL}/1", "--json")
    (found,) = [
        each for each in answer.last["findings"] if each["rule"] == "human_rating"
    ]
    return dict(found)


@pytest.mark.ci
def test_people_who_find_it_better_let_it_pass_and_their_ratings_are_counted_again(
    site: Checkout, tmp_path: Path
) -> None:
    # Where all are called safe, fewer groups of prompts show less than the policy asks for.
    closed = reviewed(site, prompts=40, **ALL)
    assert closed.code == 0, closed.err
    assert "3 people rated" in closed.out
    bodies = [entry.body for entry in open_ledger(site.home).entries()]
    opened, rated = bodies[-2:]
    assert isinstance(opened, ReviewOpened)
    assert isinstance(rated, Rated)
    assert (opened.reviewers, opened.against) == (("ann", "bob", "eve"), "base")
    assert rated.difference is not None
    assert rated.difference.estimate == 3
    found = finding(site)
    assert found["outcome"] == "passed", found
    assert "difference +3.00" in found["text"]
    # An erased file leaves nothing that could be counted.
    open_ledger(site.home).erase(rated.ratings_sha256)
    assert finding(site)["outcome"] == "undecided"
    assert "the ratings were erased" in finding(site)["text"]


@pytest.mark.slow
def test_what_is_shown_says_nothing_of_who_answered(site: Checkout) -> None:
    open_one(site)
    plan = sealed_plan(site.home, MODEL)
    client = MlflowClient(site.uri, site.uri)
    experiment = client.get_experiment_by_name(REVIEWS)
    assert experiment is not None
    traces = [client.get_trace(item.id) for item in plan.items]
    for item, trace in zip(plan.items, traces, strict=True):
        (span,) = trace.data.spans
        answer = span.outputs["choices"][0]["message"]["content"]
        assert digest_of_text(answer) == item.answer_sha256
        described = json.dumps(trace.to_dict()).replace(answer, "")
        for word in ("candidate", "comparator", "base", "champion", MODEL, "planted"):
            assert word not in described
    # By nothing but its number and its time does one differ from another.
    kinds = {tuple(sorted(trace.info.tags)) for trace in traces}
    assert len(kinds) == 1
    assert {tuple(trace.info.trace_metadata) for trace in traces} == {
        ("mlflow.trace.infoFinalized",)
    }
    opened = open_ledger(site.home).entries()[-1].body
    assert isinstance(opened, ReviewOpened)
    assert digest_of_text(plan.model_dump_json()) == opened.plan_sha256


@pytest.mark.ci
def test_people_who_find_it_worse_reject_it_whatever_a_later_review_says(
    site: Checkout,
) -> None:
    reviewed(site, ann=WORSE, bob=WORSE, eve=WORSE)
    found = finding(site)
    assert found["outcome"] == "rejected"
    assert "they found it worse by 3.00 points" in found["text"]
    # Another review is another try, which cannot wash the first one away.
    reviewed(site, **ALL)
    assert finding(site)["outcome"] == "rejected"
    # Nor does whoever erases what they wrote: the entry says what it came to.
    ledger = open_ledger(site.home)
    bodies = [entry.body for entry in ledger.entries()]
    first = next(body for body in bodies if isinstance(body, Rated))
    ledger.erase(first.ratings_sha256)
    found = finding(site)
    assert found["outcome"] == "rejected", found
    assert "the ratings were erased" in found["text"]


@pytest.mark.slow
def test_people_who_disagree_leave_it_undecided(site: Checkout) -> None:
    reviewed(site, ann=BETTER, bob=WORSE, eve=opinion_of(3, 3))
    found = finding(site)
    assert found["outcome"] == "undecided"
    assert "an agreement of 0.4 not shown" in found["text"]


@pytest.mark.slow
def test_too_few_people_and_people_who_guess_leave_it_undecided(site: Checkout) -> None:
    # Who gives every answer of one side a 5 sees nothing that is bad.
    guess = opinion_of(5, 1, bad=5)
    closed = reviewed(site, ann=BETTER, bob=BETTER, eve=guess)
    assert "not counted: eve (caught 0 of 6 planted bad answers" in closed.out
    found = finding(site)
    assert found["outcome"] == "undecided"
    assert found["text"].startswith("2 people rated the answers, the policy asks for 3")


@pytest.mark.slow
def test_a_review_is_closed_once_and_not_while_somebody_rates(site: Checkout) -> None:
    assert "No review of version 1" in review(site, "close").err
    open_one(site)
    plan = sealed_plan(site.home, MODEL)
    write_all(site.uri, plan, ann=BETTER, bob=BETTER)
    left = f"eve has {len(plan.items)} left"
    assert left in review(site, "status").out
    refused = review(site, "close")
    assert (refused.code, left in refused.err) == (1, True)
    write_all(site.uri, plan, eve=BETTER)
    assert "Everybody has finished" in review(site, "status").out
    assert review(site, "close").code == 0
    assert "No review of version 1" in review(site, "close").err


@pytest.mark.ci
def test_what_is_out_of_range_or_by_somebody_else_is_left_out_and_named(
    site: Checkout,
) -> None:
    open_one(site)
    plan = sealed_plan(site.home, MODEL)
    write_all(site.uri, plan, **ALL)
    for item in plan.items:
        # The last word, and no valid one; and one of a person whom nobody asked.
        write(site.uri, item.id, "ann", {SCORE: "9"})
        write(site.uri, item.id, "mallory", {SCORE: "1", SAFE: False})
        # People correct themselves: the latest valid value counts.
        if item.side == "candidate":
            write(site.uri, item.id, "bob", {SCORE: "4"})
    closed = review(site, "close", "--json")
    assert closed.code == 0, closed.err
    named = "\n".join(closed.last["set_aside"])
    assert f"'ann' wrote a value that is not 1 to 5 ({len(plan.items)})" in named
    assert "'mallory' is no reviewer of this review" in named
    assert closed.last["raters"] == 3
    # ann's earlier value, and bob's later one: 4 where he had said 5 or 4.
    assert 2.7 < closed.last["difference"]["estimate"] < 3


@pytest.mark.slow
def test_the_author_and_people_without_the_role_are_not_asked(site: Checkout) -> None:
    refused = review(site, "open", "--reviewer", "olga")
    assert "'olga' does not have the role reviewer" in refused.err
    # The account that trained, under a user of MLflow's.
    own = f"  kim: {{mlflow: [kim], accounts: [{_own_account(site)}], roles: [reviewer]}}\n"
    text = PEOPLE.replace("command_line", f"{own}command_line")
    (site.root / "people.yaml").write_text(text)
    refused = review(site, "open", "--reviewer", "kim")
    assert "'kim' trained the version" in refused.err
    open_one(site)
    assert sealed_plan(site.home, MODEL).reviewers == ("ann", "bob", "eve")


def _own_account(site: Checkout) -> str:
    registration = open_ledger(site.home).state().registration(MODEL, "1")
    assert registration is not None
    return str(registration.account).split(maxsplit=1)[0]


@pytest.mark.slow
def test_a_language_model_is_compared_with_people_and_decides_nothing(
    site: Checkout,
) -> None:
    with serving(lambda _, __: scores(4, 4)) as server:
        order = ("--address", server.url, "--judge", "stand-in", "--json")
        refused = review(site, "ask-model", *order)
        assert "Have it rated first" in refused.err
        assert server.bodies == []
        reviewed(site, prompts=40, **ALL)
        before = finding(site)
        asked = review(site, "ask-model", *order)
    assert asked.code == 0, asked.err
    # In both orders, and once more in both for the control.
    assert len(server.bodies) == 2 * asked.last["pairs"] + 2
    assert asked.last["people"] == 80
    assert "not to be relied on: its agreement with people is" in asked.out
    assert "decides nothing" in asked.out
    assert finding(site) == before


@pytest.mark.slow
def test_rated_pairs_are_exported_for_preference_training(
    site: Checkout, tmp_path: Path
) -> None:
    out = tmp_path / "pairs.jsonl"
    assert "was closed" in review(site, "export", "--out", str(out)).err
    reviewed(site, **ALL)
    assert review(site, "export", "--out", str(out)).code == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    plan = sealed_plan(site.home, MODEL)
    assert len(rows) == len(plan.side("candidate"))
    assert {row["margin"] for row in rows} <= {2.0, 3.0}
    from datasets import Dataset
    from trl.data_utils import is_conversational

    assert is_conversational(Dataset.from_list(rows)[0])
