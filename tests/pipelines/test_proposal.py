"""What is proposed for rows: by their completions, and by what so many clusters can show."""

import json
from collections.abc import Sequence

import pytest

from pipelines.gates.policy import GatePolicy
from pipelines.gates.proposal import _smallest_effect as smallest_effect
from pipelines.gates.proposal import propose
from pipelines.gates.task import recognise_task
from pipelines.values.dataset import Message, Prompt
from tests.support import trials

DEFAULT = trials.policy().gates
CALLS = [json.dumps({"name": "find", "arguments": {"n": n}}) for n in range(9)]


def prompts(completions: Sequence[str], words: int = 3) -> list[Prompt]:
    # Words and no numbers: those are no other content.
    letters = "abcdefghijklmnopqrstuvwxyz"
    return [
        Prompt(
            id=f"{number:016x}",
            messages=(
                Message(
                    role="user",
                    content=f"{letters[number % 26]}{letters[number // 26 % 26]} "
                    * words,
                ),
            ),
            references=(completion,),
            group=f"group {number}",
        )
        for number, completion in enumerate(completions)
    ]


LONG = "the quick brown fox jumps over one lazy dog today"


@pytest.mark.parametrize(
    ("completions", "words", "task", "primary"),
    [
        (CALLS, 3, "tool calls", "tool_call"),
        ([json.dumps({"n": n}) for n in range(9)], 3, "JSON", "json_field_f1"),
        (["yes", "no", "no"] * 9, 3, "classes", "label_f1"),
        ([f"{n} is it" for n in range(110)] * 3, 3, "many classes", "label_accuracy"),
        ([f"Paris {n}." for n in range(9)], 3, "short answers", "squad_exact_match"),
        ([f"tar -xzf {n}.tgz" for n in range(9)], 3, "text", "chrf"),
        ([f"{LONG} {n}" for n in range(9)], 100, "summaries", "rouge_l"),
        ([f"{LONG} {n}" for n in range(9)], 10, "text", "chrf"),
        ([], 3, "text", "chrf"),
    ],
)
def test_the_most_particular_task_whose_metric_applies_is_recognised(
    completions: list[str], words: int, task: str, primary: str
) -> None:
    recognised = recognise_task(prompts(completions, words))
    assert (recognised.name, recognised.primary) == (task, primary)


@pytest.mark.parametrize(
    "completions",
    [
        CALLS,
        [json.dumps({"n": n}) for n in range(9)],
        ["yes", "no", "no"],
        [f"{n} is it" for n in range(110)] * 3,
        [f"Paris {n}." for n in range(9)],
        [f"tar -xzf {n}.tgz" for n in range(9)],
    ],
    ids=["calls", "JSON", "classes", "many classes", "short", "text"],
)
@pytest.mark.parametrize("held_out", [0, 1, 12, 40, 600])
def test_every_proposal_is_a_policy_that_loads(
    completions: list[str], held_out: int
) -> None:
    asked = prompts(completions)
    judged = prompts((completions * 600)[:held_out])
    proposal = propose(asked, judged, DEFAULT)
    document = proposal.applied_to(DEFAULT.model_dump(mode="json"), "mine")
    policy = GatePolicy.model_validate(document)
    assert (policy.name, policy.screen.primary) == ("mine", proposal.primary)
    judged_by = {proposal.primary, *(each.metric for each in policy.screen.guardrails)}
    assert judged_by == set(proposal.metrics)
    required = {each.metric for each in policy.screen.guardrails if each.required}
    assert required == {"perplexity_per_token", "bits_per_byte"}
    assert policy.judge == DEFAULT.judge
    assert policy.admit == DEFAULT.admit


def test_more_clusters_show_less_and_the_reason_has_the_numbers() -> None:
    # 2.486 standard errors: 0.5 * 2.486 / sqrt(100) is 0.124.
    labels = ["yes", "no"] * 50
    few = propose(prompts(labels), prompts(labels), DEFAULT)
    assert (few.clusters, few.smallest_effect) == (100, 0.1)
    assert "100 held-out clusters show a difference of 0.062 to 0.12" in few.reasons[1]
    assert "most verdicts will be undecided" in few.reasons[1]
    many = propose(prompts(labels * 6), prompts(labels * 6), DEFAULT)
    assert many.clusters == 600
    assert many.smallest_effect == 0.06
    assert "undecided" not in many.reasons[1]
    assert many.margins["label_accuracy"] == 0.06
    assert many.margins["perplexity_per_token"] == 0.5


def test_what_the_rows_lack_is_said_and_no_floor_is_lowered() -> None:
    lacking = propose(prompts(CALLS), prompts(CALLS), DEFAULT)
    text = " ".join(lacking.reasons)
    assert "The floor of 20 held-out clusters stays: 11 more are needed" in text
    assert (
        "The floor of 30 held-out rows stays, and 9 prompts of 9 are held out" in text
    )
    enough = propose(prompts(CALLS * 9), prompts(CALLS * 9), DEFAULT)
    assert "floor" not in " ".join(enough.reasons)


def test_an_effect_at_the_most_that_a_policy_may_ask_for_is_asked_for_as_it_is() -> (
    None
):
    # A share spreads by 0.5: what these clusters show is a tenth of the scale.
    labels = recognise_task(prompts(["yes", "no"] * 9))
    effect, reason = smallest_effect(labels, 0.2, clusters=150)
    assert effect == 0.1
    assert reason.endswith(": smallest_effect is 0.1")


def test_rows_and_clusters_at_a_floor_lack_nothing() -> None:
    at_both = prompts(["yes", "no"] * 15)
    assert "floor" not in " ".join(propose(at_both, at_both, DEFAULT).reasons)
    few_rows = at_both[: DEFAULT.screen.min_clusters]
    (lack,) = propose(few_rows, few_rows, DEFAULT).reasons[3:]
    assert lack.startswith("The floor of 30 held-out rows stays")
