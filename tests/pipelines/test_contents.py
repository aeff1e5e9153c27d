"""Copies of one content are one, and what differs in substance is not."""

import pytest

from pipelines.rows.contents import assign_clusters, digest_content
from pipelines.values.dataset import group_prompts
from tests.support import trials


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("List files", ["ls"]), ("list  FILES!", ["ls"])),
        (("List files", ["ls"]), ("17. List files", ["ls"])),
        (("List files (1)", ["ls."]), ("List files (2)", ["ls!"])),
        (("Copy 3 to 4", ["cp 3 4"]), ("Copy 7 to 8", ["cp 7 8"])),
        (("Who?", ["a", "b"]), ("who", ["b", "a", "a"])),
        (("你好!", ["好"]), ("你好。", ["好"])),
        (("a\u200bb", ["x"]), ("ab", ["x"])),
    ],
)
def test_prompts_that_differ_in_case_signs_and_numbers_alone_are_one_content(
    one: tuple[str, list[str]], other: tuple[str, list[str]]
) -> None:
    assert digest_content(*one) == digest_content(*other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("List files", ["ls"]), ("List folders", ["ls"])),
        (("List files", ["ls"]), ("List files", ["dir"])),
        (("What is 2 + 3?", ["5"]), ("What is 2 + 4?", ["6"])),
        (("1 + 1", ["yes"]), ("2 + 2", ["yes"])),
        (("!!!", ["yes"]), ("???", ["yes"])),
        (("हिन्दी", ["x"]), ("हन्द", ["x"])),
    ],
)
def test_what_is_asked_or_expected_otherwise_is_another_content(
    one: tuple[str, list[str]], other: tuple[str, list[str]]
) -> None:
    assert digest_content(*one) != digest_content(*other)


def test_groups_that_share_a_content_are_one_cluster_and_others_stay_apart() -> None:
    groups = ("a", "b", "b", "c", "d", "e")
    assert assign_clusters(groups, ("1", "1", "2", "2", "3", "4")) == (
        "a",
        "a",
        "a",
        "a",
        "d",
        "e",
    )
    assert assign_clusters(groups, (None,) * 6) == groups
    assert assign_clusters(("z", "y", "x"), ("1", "1", "1")) == ("x", "x", "x")
    assert assign_clusters((), ()) == ()


def test_twenty_contents_under_a_hundred_names_are_twenty_clusters() -> None:
    originals = trials.rows(20, 20)
    copies = [
        row.model_copy(
            update={
                "messages": tuple(
                    each.model_copy(update={"content": f"{copy}) {each.content}!"})
                    for each in row.messages
                ),
                "group": f"{row.group}-{copy}",
            }
        )
        for row in originals
        for copy in range(5)
    ]
    made = trials.evidence(trials.trial(held_out=copies))
    assert (
        len(group_prompts(copies)),
        len(set(made.groups)),
        len(set(made.clusters)),
    ) == (100, 100, 20)
