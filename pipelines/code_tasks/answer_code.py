"""The program in an answer: a code block, a whole function, or the rest of the one asked for."""

import re

from pipelines.code_tasks.humaneval import CodeTask
from pipelines.sandbox.answer_code import find_blocks, find_code

# Where a continuation has left the function: Chen et al. 2021, "Evaluating Large Language Models
# Trained on Code", section 2.2.
_STOPS = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")


def program_in(answer: str, task: CodeTask) -> str:
    """The program that the task's tests are run against.

    Nothing is mended: what is no Python fails.
    """
    code = _code_in(answer, task)
    if _defines(code, task):
        # An answer need not say again what stands before the function.
        return f"{task.preamble}\n{code}"
    return task.prompt + _rest_of_function(code)


def _code_in(answer: str, task: CodeTask) -> str:
    """The first code block with the function, else the first one, else all of the answer."""
    for block in find_blocks(answer):
        if _defines(block, task):
            return block
    return find_code(answer)


def _defines(code: str, task: CodeTask) -> bool:
    # At the start of a line: a method or an inner function of that name is another.
    name = re.escape(task.entry_point)
    definition = rf"^def {name}\b"
    found = re.search(definition, code, re.MULTILINE)
    return found is not None


def _rest_of_function(code: str) -> str:
    end = len(code)
    for stop in _STOPS:
        place = code.find(stop)
        # Without the word there is no end of its kind.
        if place >= 0:
            end = min(end, place)
    rest = code[:end]
    return f"{rest}\n"
