"""What a held-out set can show."""

import pytest

from pipelines.statistics.power import clusters_needed, smallest_detectable_effect


def test_133_prompts_show_0_22_standard_deviations_four_times_in_five() -> None:
    assert round(smallest_detectable_effect(133, alpha=0.05, power=0.8), 2) == 0.22


def test_0_05_standard_deviations_need_about_2500_prompts() -> None:
    assert smallest_detectable_effect(2500, alpha=0.05, power=0.8) == pytest.approx(
        0.05, abs=0.0005
    )
    assert clusters_needed(
        1 / 133**0.5, 133, 0.05, alpha=0.05, power=0.8
    ) == pytest.approx(2473, abs=1)


def test_half_the_effect_needs_four_times_the_clusters() -> None:
    assert clusters_needed(1.0, 100, 1.0, 0.05, 0.8) == 619
    assert clusters_needed(1.0, 100, 0.5, 0.05, 0.8) == pytest.approx(4 * 618.3, abs=1)
