"""The probe of membership says what the gains show, and does not cry wolf."""

import random

import pytest

from pipelines.statistics import membership
from pipelines.statistics.membership import Gain, probe_membership


def gains(name: str, mean: float, groups: int = 40, seed: int = 0) -> list[Gain]:
    dice = random.Random(f"{name}{seed}")
    return [
        Gain(
            group=f"{name}{number // 2}", nats=10 * dice.gauss(mean, 0.2), utf8_bytes=10
        )
        for number in range(2 * groups)
    ]


@pytest.fixture(autouse=True)
def fewer_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(membership, "DRAWS", 999)


@pytest.mark.parametrize(
    ("known", "held_out", "leaning", "words"),
    [
        (1.0, 0.5, "train and dev", "saw the former"),
        (0.5, 1.0, "held-out", "trained on the held-out rows; ask who trained it"),
        (1.0, 1.0, "neither", "which the probe cannot tell apart"),
    ],
)
def test_it_leans_to_the_rows_on_which_more_is_gained(
    known: float, held_out: float, leaning: str, words: str
) -> None:
    probed = probe_membership(
        gains("k", known), gains("h", held_out), is_random_split=True
    )
    assert (probed.leans_to, probed.known_groups, probed.held_out_groups) == (
        leaning,
        40,
        40,
    )
    assert words in probed.text
    assert "chosen and not drawn" not in probed.text


def test_a_file_that_a_person_chose_may_differ_by_its_rows() -> None:
    probed = probe_membership(gains("k", 1), gains("h", 0.5), is_random_split=False)
    assert "The held-out file was chosen and not drawn" in probed.text


def test_a_difference_that_is_shown_and_small_means_nothing() -> None:
    probed = probe_membership(
        [Gain(group=f"k{n}", nats=10.1, utf8_bytes=10) for n in range(40)],
        [Gain(group=f"h{n}", nats=10.0, utf8_bytes=10) for n in range(40)],
        is_random_split=True,
    )
    assert probed.p_value == pytest.approx(0.001)
    assert probed.leans_to == "neither"


def test_equal_gains_and_single_groups_show_nothing() -> None:
    same = [Gain(group=f"g{n}", nats=1, utf8_bytes=1) for n in range(9)]
    assert probe_membership(same, same[:1], is_random_split=True).p_value == 1


def test_rows_of_one_group_count_as_one() -> None:
    many = [Gain(group="one", nats=9.0, utf8_bytes=1)] * 500
    probed = probe_membership(
        [*many, Gain(group="two", nats=1.0, utf8_bytes=1)],
        gains("h", 1.0),
        is_random_split=True,
    )
    assert (probed.known_groups, probed.known_gain) == (2, 5.0)


@pytest.mark.slow
def test_of_an_adapter_that_saw_all_rows_it_leans_anywhere_in_one_case_of_a_hundred() -> (
    None
):
    leanings = [
        probe_membership(
            gains("k", 0.1, 40, seed), gains("h", 0.1, 20, seed), is_random_split=True
        ).leans_to
        for seed in range(600)
    ]
    assert sum(leaning != "neither" for leaning in leanings) <= 15
