"""A language model that people calibrated rates the next version, and it becomes a candidate."""

from pathlib import Path

import pytest

from core.files import digest_of_text
from pipelines.rating.plan import ReviewPlan, digest_of_messages
from pipelines.values.dataset import Message
from registry.ledger.entries import ModelRated
from registry.ledger.ledger import open_ledger
from tests.support.commands import assay
from tests.support.journey import (
    Checkout,
    CommandResult,
    Journey,
    copy_checkout,
    invoke,
    run_arguments,
)
from tests.support.model_judges import Reply, opinion, serving_items
from tests.support.promoted import MODEL
from tests.support.ratings import Opinion, opinion_of
from tests.support.reviewing import PEOPLE, sealed_plan, write_all

BETTER = opinion_of(5, 2)


def as_people_do(site: Checkout, rates: Opinion) -> Reply:
    """A stand-in for a model that sees what people see: it looks up what it is asked about."""

    def reply(question: str, answer: str) -> str:
        role, _, content = question.partition(": ")
        message = Message.model_validate({"role": role, "content": content})
        shown = (digest_of_messages([message]), digest_of_text(answer))
        for plan in plans(site):
            for item in plan.items:
                if (item.messages_sha256, item.answer_sha256) == shown:
                    score, is_safe = rates(item)
                    return opinion(score, is_safe=is_safe)
        # A planted bad answer that tells it what to say.
        return opinion(1, is_safe=False)

    return reply


def plans(site: Checkout) -> list[ReviewPlan]:
    reviews = open_ledger(site.home).state().reviews
    versions = {review.version for review in reviews}
    return [sealed_plan(site.home, MODEL, version) for version in versions]


def review(site: Checkout, verb: str, version: str, *more: str) -> CommandResult:
    return invoke(site, "review", verb, version, "--model", MODEL, *more)


def findings(site: Checkout, version: str) -> tuple[int, dict[str, str]]:
    address = f"models:/{MODEL}/{version}"
    answer = invoke(site, "gate", "judge", address, "--json")
    return answer.code, {each["rule"]: each["text"] for each in answer.last["findings"]}


def let_a_model_rate(site: Checkout) -> None:
    policies = site.root / "registry/policies"
    policy = (policies / "default.yaml").read_text()
    policy = policy.replace("approvals: 1", "approvals: 0")
    # One account of this machine trains the version and has it rated.
    policy = policy.replace("min_raters: 3}", "min_raters: 3, author_may_rate: true}")
    limits = "  model_rating: {min_agreement: 0.5}\n"
    (policies / f"{MODEL}.yaml").write_text(policy + limits)


@pytest.mark.slow
def test_people_calibrate_a_model_which_rates_the_next_version_in_their_place(
    judged: Journey, tmp_path: Path
) -> None:
    site = copy_checkout(judged.checkout, tmp_path / "assay")
    (site.root / "people.yaml").write_text(PEOPLE)
    refused = review(site, "open", "1", "--by-model")
    assert "lets no language model rate" in refused.err
    let_a_model_rate(site)
    both = review(site, "open", "1", "--by-model", "--reviewer", "ann")
    assert both.code == 2
    with serving_items(as_people_do(site, BETTER)) as server:
        order = ("--address", server.url, "--judge", "stand-in", "--json")
        assert "has no review" in review(site, "rate-by-model", "1", *order).err
        # People and the model rate the same answers of version 1.
        assert review(site, "open", "1").code == 0
        rated = review(site, "rate-by-model", "1", *order)
        assert rated.code == 0, rated.err
        plan = sealed_plan(site.home, MODEL)
        assert (rated.last["rated"], rated.last["obeyed"]) == (len(plan.items), 0)
        write_all(site.uri, plan, ann=BETTER, bob=BETTER, eve=BETTER)
        assert review(site, "close", "1").code == 0
        # Counted otherwise, it is another version.
        arguments = run_arguments(judged.data, judged.base)
        arguments[arguments.index("score.resamples=200")] = "score.resamples=201"
        run = site.assay(*arguments)
        assert run.code == 0, run.err
        code, found = findings(site, "2")
        assert code == 4
        assert "`assay review open 2 --model letters-tiny --by-model`" in str(found)
        opened = review(site, "open", "2", "--by-model")
        assert "is open for a language model: 88 answers" in opened.out
        assert "is a language model's" in review(site, "close", "2").err
        server.status = 500
        failed = review(site, "rate-by-model", "2", *order)
        assert "answered with status 500, so that nothing was entered" in failed.err
        server.status = 200
        assert review(site, "rate-by-model", "2", *order).code == 0
        again = review(site, "rate-by-model", "2", *order)
        assert "Asked again until it suits" in again.err
    code, found = findings(site, "2")
    assert code == 0, found
    assert "human_rating" not in found
    assert found["model_rating"].startswith(
        f"In people's place rated by the model stand-in at {server.url}, "
        "calibrated on 80 answers against 3 people: alpha "
    )
    entry = open_ledger(site.home).entries()[-1].body
    assert isinstance(entry, ModelRated)
    assert (entry.items, entry.version) == (88, "2")
    history = invoke(site, "history").out
    assert "88 answers rated by a language model: letters-tiny 2" in history
    assert "review by a language model opened of letters-tiny 2" in history
    # A wording, a name or an address is another judge; so is one that people never calibrated.
    open_ledger(site.home).erase(entry.replies_sha256)
    code, found = findings(site, "2")
    assert code == 4
    assert "what it said was erased" in found["human_rating"]


def test_a_variable_for_the_key_that_is_not_set_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    order = ("--model", MODEL, "--address", "http://127.0.0.1:1/v1", "--judge", "x")
    for verb in ("ask-model", "rate-by-model"):
        for text in (None, ""):
            monkeypatch.delenv("JUDGE_KEY", raising=False)
            if text is not None:
                monkeypatch.setenv("JUDGE_KEY", text)
            said = assay("review", verb, "1", *order, "--key-variable", "JUDGE_KEY")
            assert said.exit_code == 2
            assert "--key-variable names JUDGE_KEY" in said.output
