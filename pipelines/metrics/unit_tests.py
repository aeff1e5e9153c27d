"""Unit tests: the share of answers whose code passes the tests of its prompt, run in boxes."""

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from core.errors import UnusableRow
from pipelines.metrics.metric import FloatArray, References, ScoredRow
from pipelines.sandbox.answer_code import find_code
from pipelines.sandbox.box import LIMITS, python_version
from pipelines.sandbox.judge import Outcome
from pipelines.sandbox.run import Trial, run_trial
from pipelines.sandbox.self_check import check_sandbox
from pipelines.values.dataset import Prompt


class UnitTests:
    """Share of answers, 0 to 1, that pass every test of their prompt.

    Each prompt brings its tests, in the column that `data.tests_column` names. They are believed
    where the prompt's own references pass them and an empty answer does not.
    """

    name = "unit_tests"
    unit = "share, 0 to 1"
    higher_is_better = True
    scale = 1.0
    worst: float | None = 0.0
    # Its tests judge an answer, and no reference does.
    compares_answers = False
    stand_in: str | None = None

    def row_statistics(self, row: ScoredRow) -> tuple[float, ...]:
        """Whether the answer passes, and one row.

        `UnusableRow` where the prompt has no tests, or tests that say nothing;
        `SandboxUnavailable` where there are no boxes: no answer is run without them.
        """
        check_tests(row)
        outcomes = [_try(row.prediction, tests) for tests in row.tests]
        # Each has been found to ask something.
        passes = all(outcome.passed for outcome in outcomes)
        return float(passes), 1.0

    def corpus(self, sums: FloatArray) -> FloatArray:
        """Answers that pass over rows."""
        passed = sums[..., 0]
        rows = sums[..., 1]
        return passed / rows

    def signature(self, rows: Sequence[ScoredRow]) -> str:
        """Where the tests ran: what passes depends on the interpreter and its limits."""
        parts = {
            "boxes": "bubblewrap",
            "python": python_version(),
            "seconds": LIMITS.seconds,
            "memory_mb": LIMITS.memory_mb,
        }
        return "|".join(f"{name}:{entry}" for name, entry in parts.items())

    def inapplicable(self, references: References) -> str | None:
        """Everywhere."""
        return None


def check_tests(row: ScoredRow) -> None:
    """Return only where the prompt's references pass its tests and an empty answer fails them.

    `UnusableRow` names what is wrong with the tests.
    """
    if not row.tests:
        raise UnusableRow(
            f"Prompt {row.prompt_id} has no tests. "
            "Name their column with data.tests_column, or take unit_tests out of score.metrics."
        )
    for tests in row.tests:
        for reference in row.references:
            outcome = _try(reference, tests)
            if not outcome.passed:
                raise UnusableRow(
                    f"The reference of prompt {row.prompt_id} fails its tests "
                    f"({outcome.reason}). Correct the tests or the row."
                )
        # Tests that ask nothing would be passed by everything.
        if _try("", tests).passed:
            raise UnusableRow(
                f"An empty answer passes the tests of prompt {row.prompt_id}. "
                "Have them ask something of the answer."
            )


def check_all_tests(prompts: Iterable[Prompt]) -> None:
    """`check_tests` for every prompt, as many at a time as there are processors."""
    rows = [
        ScoredRow(
            prompt_id=prompt.id,
            prediction="",
            references=prompt.references,
            tests=prompt.tests,
        )
        for prompt in prompts
    ]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        # Asked for one by one, so that the first fault in the prompts' order is the one raised.
        for _ in pool.map(check_tests, rows):
            pass


# One answer is run once, whichever system gave it.
@cache
def _try(answer: str, tests: str) -> Outcome:
    check_sandbox()
    code = find_code(answer)
    trial = Trial(code=code, tests=tests)
    return run_trial(trial)
