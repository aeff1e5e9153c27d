"""What is wrong with a metric's file is named with file, line and row, and is never a score."""

import time
from pathlib import Path

import pytest

from core.errors import ParameterError, UnusableRow
from pipelines.metrics import ScoredRow, own_child
from pipelines.metrics.own import OwnMetric, count_rows, describe_file
from pipelines.metrics.own_file import MOST_BYTES, read_metric_file
from tests.support.own_metrics import COUNTS, MEMBERS, NAME, source, write_metric
from tests.support.running_system import has_ended

FILE = f"metrics/{NAME}.py"
FORMULA = "    statistics = ('lost', 'words')\n    formula = {!r}\n"
ROWS = tuple(
    ScoredRow(prompt_id=f"p{number}", prediction=f"a {number}", references=("a b",))
    for number in range(4)
)
OF_THE_FILE = {
    "def broken(:": f"{FILE} line 1 is no Python",
    "x = 1\n\0": f"{FILE} .*is no Python",
    "raise OSError('no words')": f"{FILE} line 1: it raised OSError .no words.",
    "import sys\nsys.exit(0)": f"{FILE} line 2: it raised SystemExit",
    "import os\nos._exit(0)": f"{FILE}: its process ended by itself, with exit code 0",
    "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)": "died of signal 11",
    "import no_such_package": f"{FILE} line 1: it raised ModuleNotFoundError",
    "from metrics import _words": f"{FILE} line 1 imports metrics, and a metric is one",
    "import metrics.words": f"{FILE} line 1 imports metrics.words",
    "\nfrom . import words": f"{FILE} line 2 imports ., and",
    "from .words import W": f"{FILE} line 1 imports .words, and",
    "open('metrics/words.txt')": f"{FILE} line 1: it raised FileNotFoundError",
    "print('loaded')\n" + source(): f"{FILE}: it prints",
    "": f"{FILE}: it has no metric",
    "from pipelines.metrics.metric import Metric": f"{FILE}: it has no metric",
    "import os\nos.environ['ASSAY_HOME']": f"{FILE} line 2: it raised KeyError",
    "import os\nos.environ['ASSAY_RUN_PID']": f"{FILE} line 2: it raised KeyError",
    "input()": f"{FILE} line 1: it raised EOFError",
    source()
    + "\n\nclass Other(WordError):\n    pass\n": "2 metrics, WordError and Other",
    source(MEMBERS.replace('"word_error"', '"other"')): "has the name 'other'",
    source(MEMBERS.replace("    scale = 1.0\n", "")): "line 1: WordError has no scale",
    source(MEMBERS.replace("    worst = 1.0\n", "")): "line 1: WordError has no worst",
    source(MEMBERS.replace("scale = 1.0", "scale = 0")): "its scale is 0: it has to be",
    source(MEMBERS.replace("scale = 1.0", "scale = '1'")): "its scale is '1': it has",
    source(MEMBERS.replace("scale = 1.0", "scale = float('nan')")): "its scale is nan",
    source(MEMBERS.replace("scale = 1.0", "scale = True")): "its scale is True",
    source(
        MEMBERS.replace("better = False", "better = 'no'")
    ): "its higher_is_better is",
    source(
        MEMBERS.replace("better = False", "better = None")
    ): "its higher_is_better is",
    source(
        MEMBERS.replace('"share of words"', "3")
    ): "its unit is 3: it has to be a text",
    source(MEMBERS.replace('"share of words"', '"a|b"')): "line 1: .* not fit .unit",
    source(MEMBERS.replace('"share of words"', '"<b>x"')): "line 1: .* not fit .unit",
    source(MEMBERS + "    stand_in = 'chrf'\n"): "has a stand_in",
    source(
        MEMBERS + "    def __init__(self, words):\n        pass\n"
    ): "raised TypeError",
    source(
        MEMBERS + FORMULA.format("lost +")
    ): "formula is wrong: 'lost .' is no arith",
    source(MEMBERS + FORMULA.format("none / words")): "none is none of its statistics",
    source(MEMBERS + FORMULA.format("open(lost)")): "open is none of the functions",
    source(MEMBERS + "    formula = '1'\n    statistics = 5\n"): "it raised TypeError",
    source(MEMBERS + "    formula = 3\n"): "its formula is 3: it has to be a text",
    source(
        MEMBERS + "    formula = '1'\n    statistics = (1,)\n"
    ): "are .1,.: they have",
}
OF_A_ROW = {
    "        return float('nan'), 1.0\n": "where nan is no finite number",
    "        return float('inf'), 1.0\n": "where inf is no finite number",
    "        return 0.0, float('nan')\n": "where nan is no finite number",
    "        return 1e999, 1\n": "where inf is no finite number",
    "        return None\n": "row_statistics gives None: it has to give two numbers",
    "        return 'good'\n": "gives 'good': it has to give two numbers",
    "        return ('1', '2')\n": "where '1' is no finite number",
    "        return (True, 1.0)\n": "where True is no finite number",
    "        return 0.5\n": "gives 0.5: it has to give two numbers",
    "        return (0.5,)\n": "gives .0.5,.: it has to give two numbers",
    "        return 0.5, 1.0, 1.0\n": "it has to give two numbers",
    "        return 0.5, -1.0\n": "the weight -1, which is below 0",
    "        return 1.5, 1.0\n": "1.5 of a weight of 1, which is outside of its scale, 0 to 1",
    "        return -0.5, 1.0\n": "outside of its scale, 0 to 1",
    "        return 1.0, 0.0\n": "outside of its scale",
    "        return 1 / 0, 1.0\n": "line 12: .* it raised ZeroDivisionError",
    "        raise KeyboardInterrupt\n": "line 12: .* it raised KeyboardInterrupt",
    "        row.prediction = ''\n        return 0.0, 1.0\n": "it raised ValidationError",
    "        row.__dict__['prediction'] = ''\n        return 0.0, 1.0\n": "changes the row",
    "        print(row)\n        return 0.0, 1.0\n": "it prints: take the print out",
    "        import os\n        os.system('echo x')\n        return 0.0, 1.0\n": "it prints",
    "        import os\n        os._exit(3)\n": "ended by itself, with exit code 3",
}
CHANGING = {
    "chance": "        import random\n        return random.random(), 1.0\n",
    "order": (
        "        self.seen = getattr(self, 'seen', 0) + 1\n"
        "        return self.seen / 10, 1.0\n"
    ),
    "the seed of hashes": "        return hash(row.prompt_id) % 97 / 97, 1.0\n",
    "time": "        import time\n        return time.time() % 1, 1.0\n",
}


def counted(project: Path, text: str) -> OwnMetric:
    write_metric(project, text)
    file = read_metric_file(NAME, project)
    return count_rows(file, ROWS, [row.references for row in ROWS])


def check_file_fault(project: Path, text: str, sentence: str) -> None:
    write_metric(project, text)
    with pytest.raises(ParameterError, match=sentence) as raised:
        describe_file(read_metric_file(NAME, project))
    assert FILE in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_file_without_a_fault_counts(tmp_path: Path) -> None:
    metric = counted(tmp_path, source())
    assert metric.row_statistics(ROWS[0]) == (0.5, 1.0)


@pytest.mark.parametrize("text", list(OF_THE_FILE)[:2])
def test_a_file_that_is_no_python_is_named_with_its_line(
    tmp_path: Path, text: str
) -> None:
    check_file_fault(tmp_path, text, OF_THE_FILE[text])


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("-" * 100_000 + "1", "is no Python"),
        ("from metrics import _words", "line 1 imports metrics, and a metric is one"),
        ("\nimport os, metrics.words", "line 2 imports metrics.words"),
        ("def f():\n    from .words import W", "line 2 imports .words"),
        ("from .. import words", "line 1 imports .., and"),
    ],
)
def test_a_file_that_is_not_alone_or_no_python_is_refused_before_it_is_run(
    tmp_path: Path, text: str, fact: str
) -> None:
    write_metric(tmp_path, text)
    with pytest.raises(ParameterError) as raised:
        read_metric_file(NAME, tmp_path)
    assert FILE in str(raised.value)
    assert fact in str(raised.value)


def test_a_file_may_import_what_only_begins_like_the_folder(tmp_path: Path) -> None:
    text = "import metricsplus\nfrom os import path\nimport numpy.metrics"
    write_metric(tmp_path, text)
    assert read_metric_file(NAME, tmp_path).source == text


@pytest.mark.ci
@pytest.mark.parametrize("text", list(OF_THE_FILE)[2:])
def test_a_file_that_is_no_metric_is_named_with_its_line(
    tmp_path: Path, text: str
) -> None:
    check_file_fault(tmp_path, text, OF_THE_FILE[text])


def check_row_fault(project: Path, counts: str) -> None:
    # Rows 0 to 2 are counted, the last one is not.
    guard = "        if row.prompt_id != 'p3':\n            return 0.5, 1.0\n"
    with pytest.raises(UnusableRow, match=OF_A_ROW[counts]) as raised:
        counted(project, source(counts=guard + counts))
    said = str(raised.value)
    assert FILE in said
    assert "at prompt p3, with the answer 'a 3'" in said
    assert "\n" not in said


def test_a_row_that_gives_a_nan_is_named(tmp_path: Path) -> None:
    check_row_fault(tmp_path, next(iter(OF_A_ROW)))


@pytest.mark.ci
@pytest.mark.parametrize("counts", list(OF_A_ROW)[1:])
def test_a_row_that_cannot_be_counted_is_named(tmp_path: Path, counts: str) -> None:
    check_row_fault(tmp_path, counts)


@pytest.mark.parametrize("counts", CHANGING.values(), ids=CHANGING)
def test_a_row_that_is_counted_otherwise_the_second_time_is_named(
    tmp_path: Path, counts: str
) -> None:
    sentence = "a row has to give the same numbers always"
    with pytest.raises(UnusableRow, match=sentence) as raised:
        counted(tmp_path, source(counts=counts))
    assert "at prompt p" in str(raised.value)


@pytest.mark.ci
def test_a_row_that_takes_too_long_is_named(tmp_path: Path) -> None:
    # In C, where Python gets no turn.
    slow = "        if row.prompt_id == 'p2':\n            (10**8) ** (10**8)\n"
    with pytest.raises(UnusableRow, match=f"it takes over {own_child.SECONDS} s"):
        counted(tmp_path, source(counts=slow + COUNTS))


def test_a_process_that_a_metric_leaves_behind_is_ended(tmp_path: Path) -> None:
    note = tmp_path / "left-behind"
    fork = (
        "        import os, time\n"
        "        if os.fork() == 0:\n"
        f"            open({str(note)!r}, 'a').write(f'{{os.getpid()}} ')\n"
        "            time.sleep(300)\n"
        "            os._exit(0)\n"
        f"        while not os.path.exists({str(note)!r}):\n"
        "            time.sleep(0.01)\n"
    )
    begun = time.monotonic()
    metric = counted(tmp_path, source(counts=fork + COUNTS))
    # It is not waited for.
    assert time.monotonic() - begun < 60
    assert metric.row_statistics(ROWS[0]) == (0.5, 1.0)
    left = [int(pid) for pid in note.read_text(encoding="utf-8").split()]
    assert left
    assert all(has_ended(pid) for pid in left)


def test_a_corpus_of_its_own_has_to_be_the_mean(tmp_path: Path) -> None:
    same = "\n    def corpus(self, sums):\n        return sums[..., 0] / sums[..., 1]\n"
    assert counted(tmp_path, source() + same).row_statistics(ROWS[0]) == (0.5, 1.0)
    other = same.replace("/ sums[..., 1]", "/ sums[..., 1] * 2")
    with pytest.raises(
        ParameterError, match="its corpus is not the first sum over the"
    ):
        counted(tmp_path, source() + other)


@pytest.mark.ci
@pytest.mark.parametrize(
    ("formula", "numbers", "sentence"),
    [
        ("lost / words", "1.0", "it has to give 2 numbers, lost, words"),
        ("lost / words", "3.0, 2.0", "its formula gives 1.5, which is outside of its"),
        ("lost / words", "0.0, 0.0", "its formula gives nan for all rows together"),
    ],
)
def test_a_formula_that_does_not_fit_its_rows_is_named(
    tmp_path: Path, formula: str, numbers: str, sentence: str
) -> None:
    members = MEMBERS + FORMULA.format(formula)
    text = source(members, f"        return ({numbers},)\n")
    with pytest.raises((ParameterError, UnusableRow), match=sentence):
        counted(tmp_path, text)


@pytest.mark.ci
def test_a_corpus_beside_a_formula_has_to_be_the_formula(tmp_path: Path) -> None:
    members = MEMBERS + FORMULA.format("lost / words")
    text = source(members, "        return 1.0, 2.0\n")
    same = "\n    def corpus(self, sums):\n        return sums[..., 0] / sums[..., 1]\n"
    assert counted(tmp_path, text + same).record.formula == "lost / words"
    with pytest.raises(ParameterError, match="its corpus is not its formula"):
        counted(tmp_path, text + same.replace("0] /", "0] * 2 /"))


@pytest.mark.parametrize("member", ["signature", "inapplicable"])
@pytest.mark.parametrize(
    ("answer", "sentence"),
    [("3", "gives 3: it has to give a text"), ("'a\\nb'", "what it says does not fit")],
)
def test_an_optional_member_gives_one_plain_line(
    tmp_path: Path, member: str, answer: str, sentence: str
) -> None:
    told = f"\n    def {member}(self, about):\n        return {answer}\n"
    with pytest.raises(ParameterError, match=sentence):
        counted(tmp_path, source() + told)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=rf"{FILE} cannot be read \(No such file"):
        read_metric_file(NAME, tmp_path)


def test_a_link_and_a_folder_and_a_heavy_file_are_no_metric(tmp_path: Path) -> None:
    path = write_metric(tmp_path)
    path.rename(tmp_path / "elsewhere.py")
    path.symlink_to(tmp_path / "elsewhere.py")
    with pytest.raises(ParameterError, match="is no file of its own"):
        read_metric_file(NAME, tmp_path)
    path.unlink()
    path.mkdir()
    with pytest.raises(ParameterError, match="is no file of its own"):
        read_metric_file(NAME, tmp_path)
    path.rmdir()
    write_metric(tmp_path, "#" * MOST_BYTES)
    assert len(read_metric_file(NAME, tmp_path).source) == MOST_BYTES
    write_metric(tmp_path, "#" * (MOST_BYTES + 1))
    with pytest.raises(ParameterError, match="Take the data out of it"):
        read_metric_file(NAME, tmp_path)
    path.write_bytes(b"# \xff")
    with pytest.raises(ParameterError, match="is not UTF-8"):
        read_metric_file(NAME, tmp_path)


def test_a_private_base_and_a_value_type_are_no_second_metric(tmp_path: Path) -> None:
    helpers = (
        "from dataclasses import dataclass\n\n"
        "@dataclass(frozen=True)\nclass Words:\n    said: str\n\n"
        "class _Base:\n    def row_statistics(self, row):\n        return 0.0, 1.0\n\n"
    )
    text = source(before=helpers).replace("class WordError:", "class WordError(_Base):")
    assert counted(tmp_path, text).row_statistics(ROWS[0]) == (0.5, 1.0)
