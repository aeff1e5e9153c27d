"""How often the gate errs in a year: `python -m benchmarks.gate [--short]`.

A year is simulated: each night a candidate is judged against the champion, and the truth is known.
The bounds are the product's own (`paired_difference`), and so are the levels of confirmations and
what confirms (`level_of`, `find_confirmed`), under the default policy. A cluster's score is normal;
what differs between two systems on it has a standard deviation of 1, of which half is each
system's own, so that a champion keeps its luck until another takes its place.

Printed are

- a year of candidates that are no better: false promotions, and the chance of one or more;
- the same with candidates that are a little worse (creep): how far the truth falls in a year;
- candidates that are better: how many are found within 1, 7 and 30 nights;
- the fresh groups that a year uses up, and how lucky the champion is at its end.

The peers judge the same nights: a plain `>=` of two means on 50 rows, and a z-test that does not
pair. Guardrails and bias are left out here: they could only stop more candidates.
"""

import argparse
import math
import os
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from benchmarks.site import print_result
from pipelines.gates.confirmation import find_confirmed
from pipelines.metrics import FloatArray, metric_named
from pipelines.statistics.bootstrap import Difference, paired_difference
from pipelines.statistics.spending import level_of
from pipelines.values.evidence import Resampling
from pipelines.values.reserve import MOST_A_YEAR, Block, Confirmation
from pipelines.values.verdict import Comparison

GOAL = 0.05
"""The chance of one false promotion or more in a year, at most."""
NIGHTS = 365
STANDING = 100
"""Groups that judge every candidate, and groups of a block."""
ALPHA = 0.05
ROWS_OF_A_PLAIN_RULE = 50
_OWN = math.sqrt(0.5)
"""The spread of one system on a cluster: two of them differ by a standard deviation of 1."""
_RESAMPLING = Resampling(resamples=10_000, seed=0)
_METRIC = metric_named("exact_match")
"""A mean over rows: what it is called changes nothing here."""


@dataclass
class Year:
    """What happened in a simulated year."""

    promotions: int = 0
    first_found: int | None = None
    """The night, from 1 on, that brought the first promotion."""
    truth: float = 0.0
    """How much better the champion is at the end than at the beginning, in truth."""
    luck: float = 0.0
    """How much better it looks on the standing groups than it is."""
    fresh: int = 0
    """Groups that were sealed and are no longer."""


@dataclass
class World:
    """The groups, and how the champion answered on each, less what a group's own level is."""

    dice: np.random.Generator
    standing: FloatArray
    truth: float = 0.0
    confirmations: list[tuple[float, bool]] = field(default_factory=list)
    """Of this year, the level of each and whether it confirmed."""

    def answers(self, groups: int, truth: float) -> FloatArray:
        """How a system whose true score is `truth` does on each of some groups."""
        return truth + _OWN * self.dice.standard_normal(groups)


def compare(own: FloatArray, other: FloatArray, level: float) -> Difference | None:
    """The product's bounds on the mean difference; None where its own t bound passes nothing.

    The lower bound is never above the t bound, so that a night whose t bound is not above 0 needs
    no resampling to be known.
    """
    differences = own - other
    spread = float(differences.std(ddof=1)) / math.sqrt(len(own))
    if not float(differences.mean()) > 1.64 * spread:
        return None
    return paired_difference(_METRIC, _sums(own), _sums(other), level, _RESAMPLING)


def _sums(scores: FloatArray) -> FloatArray:
    return np.column_stack([scores, np.ones(len(scores))])


def sealed_night(world: World, effect: float, year: Year) -> bool:
    """One candidate under the default policy: screened, and confirmed where that passes."""
    truth = world.truth + effect
    own = world.answers(len(world.standing), truth)
    screened = compare(own, world.standing, ALPHA)
    if screened is None or not screened.low > 0:
        return False
    if len(world.confirmations) == MOST_A_YEAR:
        return False
    last = world.confirmations[-1] if world.confirmations else (0.0, False)
    handed_on = last[0] if last[1] else 0.0
    level = level_of(len(world.confirmations) + 1, handed_on)
    block = world.answers(STANDING, truth)
    champion = world.answers(STANDING, world.truth)
    is_confirmed = _is_confirmed(block, champion, level, len(world.confirmations) + 1)
    world.confirmations.append((level, is_confirmed))
    year.fresh += STANDING
    # The block judges every later candidate, whatever it showed.
    kept = (own, block) if is_confirmed else (world.standing, champion)
    world.standing = np.concatenate(kept)
    return is_confirmed


def _is_confirmed(
    own: FloatArray, champion: FloatArray, level: float, number: int
) -> bool:
    difference = paired_difference(
        _METRIC, _sums(own), _sums(champion), level, _RESAMPLING
    )
    document = {"metric": "mean", "against": "champion", **difference.model_dump()}
    block = Block(
        number=number,
        level=level,
        groups=("0" * 32,),
        rows_sha256="",
        against="champion",
    )
    confirmation = Confirmation.model_construct(
        block=block, comparison=Comparison.model_validate(document), missing=""
    )
    return find_confirmed(confirmation).outcome == "passed"


def unsealed_night(world: World, effect: float, _: Year) -> bool:
    """One candidate under `reserve: none`: the same groups judge every one."""
    own = world.answers(len(world.standing), world.truth + effect)
    screened = compare(own, world.standing, ALPHA)
    if screened is None or not screened.low > 0:
        return False
    world.standing = own
    return True


def plain_night(world: World, effect: float, _: Year) -> bool:
    """A plain `>=` of two means on 50 rows."""
    own = world.answers(ROWS_OF_A_PLAIN_RULE, world.truth + effect)
    if not own.mean() >= world.standing[:ROWS_OF_A_PLAIN_RULE].mean():
        return False
    world.standing = np.concatenate([own, world.standing[ROWS_OF_A_PLAIN_RULE:]])
    return True


def unpaired_night(world: World, effect: float, _: Year) -> bool:
    """A one-sided z-test at the same level that takes the two systems for unrelated samples."""
    own = world.answers(len(world.standing), world.truth + effect)
    levels = world.dice.standard_normal(len(own))
    # Unpaired, a group's own level is noise: as large as the difference's spread.
    spread = math.sqrt(
        ((own + levels).var(ddof=1) + (world.standing + levels).var(ddof=1)) / len(own)
    )
    if not (own.mean() - world.standing.mean()) / spread > 1.6449:
        return False
    world.standing = own
    return True


Night = Callable[[World, float, Year], bool]
RULES: dict[str, Night] = {
    "sealed": sealed_night,
    "reserve_none": unsealed_night,
    "plain_ge": plain_night,
    "unpaired_z": unpaired_night,
}


def simulate(rule: str, effect: float, nights: int, seed: int) -> Year:
    """One year, or fewer nights, under a rule, with candidates that are `effect` better."""
    dice = np.random.default_rng([seed, 20261126])
    world = World(dice, _OWN * dice.standard_normal(STANDING))
    year = Year()
    for night in range(1, nights + 1):
        if RULES[rule](world, effect, year):
            year.promotions += 1
            year.first_found = year.first_found or night
            world.truth += effect
            # Of candidates that are better, only when the first one is found matters.
            if effect > 0:
                break
    year.truth = world.truth
    year.luck = float(world.standing.mean()) - world.truth
    return year


def main(arguments: list[str]) -> int:
    """Simulate, print one JSON line last, and fail where the goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gate")
    parser.add_argument("--short", action="store_true", help="within five minutes")
    options = parser.parse_args(arguments)
    years, trials = (200, 80) if options.short else (2000, 400)
    started = time.monotonic()
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        null = {rule: _years(pool, rule, 0.0, NIGHTS, years) for rule in RULES}
        creep = {
            rule: _years(pool, rule, -0.05, NIGHTS, max(50, years // 4))
            for rule in RULES
        }
        better = {
            effect: _years(pool, "sealed", effect, 30, trials)
            for effect in (0.2, 0.3, 0.5)
        }
    line = _line(null, creep, better)
    _show(null, creep, better, time.monotonic() - started)
    return print_result(line)


def _years(
    pool: ProcessPoolExecutor, rule: str, effect: float, nights: int, count: int
) -> list[Year]:
    run = partial(simulate, rule, effect, nights)
    return list(pool.map(run, range(count), chunksize=10))


def _share_with_one(years: list[Year]) -> float:
    return sum(year.promotions > 0 for year in years) / len(years)


def _mean(values: list[float]) -> float:
    return statistics.fmean(values)


def _upper(years: list[Year]) -> float:
    """The exact upper 95 % limit of that share (Clopper and Pearson, 1934)."""
    from scipy.stats import beta

    count = sum(year.promotions > 0 for year in years)
    return float(beta.ppf(0.95, count + 1, len(years) - count))


def _found(years: list[Year], nights: int) -> float:
    found = [
        year.first_found is not None and year.first_found <= nights for year in years
    ]
    return sum(found) / len(found)


def _line(
    null: dict[str, list[Year]],
    creep: dict[str, list[Year]],
    better: dict[float, list[Year]],
) -> dict[str, Any]:
    chances = {rule: _share_with_one(years) for rule, years in null.items()}
    sealed = null["sealed"]
    return {
        "name": "gate",
        "value": round(chances["sealed"], 4),
        "unit": "chance of one false promotion or more in a year of 365 nights",
        "goal": f"<= {GOAL}",
        "met": chances["sealed"] <= GOAL,
        "peer": {
            rule: round(chance, 3)
            for rule, chance in chances.items()
            if rule != "sealed"
        },
        "runs": {
            "years": len(sealed),
            "upper_95": round(_upper(sealed), 4),
            "false_a_year": {
                rule: round(_mean([float(year.promotions) for year in years]), 3)
                for rule, years in null.items()
            },
            "champions_luck": {
                rule: round(_mean([year.luck for year in years]), 3)
                for rule, years in null.items()
            },
            "fresh_groups_a_null_year": round(
                _mean([float(year.fresh) for year in sealed])
            ),
            "creep": {
                rule: {
                    "passed_a_year": round(
                        _mean([float(year.promotions) for year in years]), 2
                    ),
                    "truth": round(_mean([year.truth for year in years]), 3),
                }
                for rule, years in creep.items()
            },
            "found": {
                f"{effect} sd": {
                    f"{nights} nights": round(_found(years, nights), 2)
                    for nights in (1, 7, 30)
                }
                for effect, years in better.items()
            },
        },
    }


def _show(
    null: dict[str, list[Year]],
    creep: dict[str, list[Year]],
    better: dict[float, list[Year]],
    seconds: float,
) -> None:
    """The same as a table, for people."""
    say = sys.stderr.write
    say(f"{'rule':<14}{'false a year':>14}{'P(>= 1)':>10}{'luck':>8}{'creep':>9}\n")
    for rule, years in null.items():
        promotions = _mean([float(year.promotions) for year in years])
        luck = _mean([year.luck for year in years])
        fallen = _mean([year.truth for year in creep[rule]])
        say(
            f"{rule:<14}{promotions:>14.2f}{_share_with_one(years):>10.3f}"
            f"{luck:>8.2f}{fallen:>9.2f}\n"
        )
    for effect, years in better.items():
        found = "  ".join(
            f"{nights} nights {_found(years, nights):.2f}" for nights in (1, 7, 30)
        )
        say(f"better by {effect} sd, found within: {found}\n")
    say(f"{seconds:.0f} s\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
