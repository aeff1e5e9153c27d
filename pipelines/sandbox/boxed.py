"""What runs inside of a box: `python -I -S -c THIS TEXT answer|tests FD [FD]`.

The text is handed over, since a box sees no file of Assay: the standard library alone.

answer  runs the text of an answer, and then calls its functions as the other box asks
tests   runs the tests. The answer's functions are stand-ins there, and only plain data comes back:
        what was written to be trusted is never in one process with what was not
"""

import builtins
import contextlib
import json
import os
import resource
import sys
import types
from collections.abc import Callable
from typing import Any

BEGUN = b"begun\n"
"""What the tests' box says first: both boxes stand, so whatever follows is about the answer."""
READY: dict[str, Any] = {"ready": True}
"""What the answer's box says before it runs a line of the answer."""
MODULE = "solution"
"""The name under which tests may import the answer."""
MOST_BYTES = 4_000_000
"""Of one line between the boxes."""
_CONTAINERS: dict[str, Any] = {
    "list": list,
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
}
_WRITERS: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "int": (int, hex),
    "float": (float, float.hex),
    "complex": (complex, lambda thing: [thing.real.hex(), thing.imag.hex()]),
    "bytes": (bytes, bytes.hex),
}


class Unsendable(Exception):
    """Something that is no plain data, and stays in its box."""


class AnswerEnded(Exception):
    """The process of the answer is gone, or says what no answer says."""


# Plain data. Types are rebuilt here, so an object with an `==` of its own does not cross.


def encode(thing: Any) -> Any:
    """Plain data as JSON; `Unsendable` for anything else."""
    if thing is None or isinstance(thing, bool | str):
        return thing
    if isinstance(thing, dict):
        pairs = []
        for key, entry in thing.items():
            pair = [encode(key), encode(entry)]
            pairs.append(pair)
        return {"dict": pairs}
    for name, kind in _CONTAINERS.items():
        # A subclass crosses as its plain kind, which the tests compare with.
        if isinstance(thing, kind):
            entries = [encode(entry) for entry in thing]
            return {name: entries}
    # In base 16, which loses nothing, and for which readers have no limit of digits.
    for name, (kind, write) in _WRITERS.items():
        if isinstance(thing, kind):
            written = write(thing)
            return {name: written}
    kind_name = type(thing).__name__
    raise Unsendable(f"{kind_name} is no plain data")


def decode(document: Any) -> Any:
    """What `encode` was given; `AnswerEnded` for any other document."""
    if document is None or isinstance(document, bool | str):
        return document
    try:
        pairs = document.items()
        [(name, content)] = pairs
        return _decode_tagged(name, content)
    # Whatever an answer sends, it is no fault of its tests.
    except (
        AttributeError,
        TypeError,
        ValueError,
        OverflowError,
    ) as error:
        raise AnswerEnded("the answer gave what is no plain data") from error


def _decode_tagged(name: str, content: Any) -> Any:
    if name == "int":
        return int(content, 16)
    if name == "float":
        return float.fromhex(content)
    if name == "complex":
        parts = map(float.fromhex, content)
        real, imaginary = parts
        return complex(real, imaginary)
    if name == "bytes":
        return bytes.fromhex(content)
    if name == "dict":
        things = {}
        for key, entry in content:
            place = decode(key)
            things[place] = decode(entry)
        return things
    if name not in _CONTAINERS:
        raise ValueError(name)
    # Built here, of the plain type: nothing of the answer's own class is left.
    kind = _CONTAINERS[name]
    entries = [decode(entry) for entry in content]
    return kind(entries)


# What both boxes do first.


def main() -> None:
    """Read what to run from standard input, and run it within the limits that stand there."""
    words = sys.argv[1:]
    side, *numbers = words
    request = json.load(sys.stdin)
    limits = request["limits"]
    _keep_limits(limits)
    # The box's own words are over: what runs now prints into nothing.
    _print_nowhere()
    descriptors = map(int, numbers)
    number, *rest = descriptors
    channel = Channel(number)
    if side == "answer":
        code = request["code"]
        _serve_answer(code, channel)
    else:
        [verdict] = rest
        _run_tests(request, channel, verdict)
    # Threads that were left behind hold nothing up.
    os._exit(0)


def _print_nowhere() -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    # Over the old descriptors: a C library writes to them past `sys.stdout`.
    for number in (0, 1, 2):
        os.dup2(nowhere, number)
    os.close(nowhere)


def _keep_limits(limits: dict[str, int]) -> None:
    # Hard limits: only a capability that no box has would raise them again.
    for name, most in limits.items():
        number = getattr(resource, f"RLIMIT_{name}")
        _, hard = resource.getrlimit(number)
        least = most
        # Assay itself may run under a narrower one.
        if hard != resource.RLIM_INFINITY:
            least = min(most, hard)
        both = (least, least)
        resource.setrlimit(number, both)


class Channel:
    """Lines of JSON to and from the other box."""

    def __init__(self, number: int) -> None:
        self.reading = os.fdopen(number, "rb")
        # One for each direction, over the same socket.
        other = os.dup(number)
        self.writing = os.fdopen(other, "wb")

    def say(self, document: dict[str, Any]) -> None:
        """Send a line; `AnswerEnded` where nobody reads it."""
        text = json.dumps(document)
        line = f"{text}\n".encode()
        try:
            self.writing.write(line)
            self.writing.flush()
        except OSError as error:
            raise AnswerEnded("the answer's process ended") from error

    def hear(self) -> dict[str, Any]:
        """The next line; `AnswerEnded` where there is none, or none that was agreed on."""
        try:
            # Up to a limit: a line without an end would fill the memory of the tests.
            line = self.reading.readline(MOST_BYTES)
        except OSError as error:
            raise AnswerEnded("the answer's process ended") from error
        if not line:
            raise AnswerEnded("the answer's process ended")
        if not line.endswith(b"\n"):
            raise AnswerEnded("the answer gave too much at once")
        try:
            document = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise AnswerEnded("the answer wrote into the channel") from error
        if not isinstance(document, dict):
            raise AnswerEnded("the answer wrote into the channel")
        return document


# The answer.


def _serve_answer(code: str, channel: Channel) -> None:
    # Said before a line of the answer is run.
    channel.say(READY)
    module = types.ModuleType(MODULE)
    # Where dataclasses and the like look for it.
    sys.modules[MODULE] = module
    try:
        _run(code, "<answer>", vars(module))
    # SystemExit, too: an answer that leaves has not answered.
    except BaseException as error:  # noqa: BLE001
        raised = _raised(error)
        channel.say(raised)
        return
    described = _describe(module)
    channel.say(described)
    # Until the tests have ended.
    with contextlib.suppress(AnswerEnded):
        while True:
            asked = channel.hear()
            reply = _call(module, asked)
            channel.say(reply)


def _run(code: str, name: str, space: dict[str, Any]) -> None:
    compiled = compile(
        code,
        name,
        "exec",
        # The future features of this file are none of theirs.
        dont_inherit=True,
    )
    exec(compiled, space)  # noqa: S102


def _raised(error: BaseException) -> dict[str, Any]:
    name = type(error).__name__
    return {"raised": name}


def _describe(module: types.ModuleType) -> dict[str, Any]:
    """The answer's functions by name, and its constants that are plain data."""
    functions = []
    constants = {}
    for name, thing in list(vars(module).items()):
        # Imports of the module system and an answer's own helpers: no test asks for them.
        if name.startswith("_"):
            continue
        if callable(thing):
            functions.append(name)
            continue
        with contextlib.suppress(Unsendable, RecursionError):
            constants[name] = encode(thing)
    return {"functions": functions, "constants": constants}


def _call(module: types.ModuleType, asked: dict[str, Any]) -> dict[str, Any]:
    name = asked["name"]
    arguments = decode(asked["arguments"])
    named = decode(asked["named"])
    try:
        function = getattr(module, name)
        given = function(*arguments, **named)
        value = encode(given)
    except BaseException as error:  # noqa: BLE001
        return _raised(error)
    return {"value": value}


# The tests.


def _run_tests(request: dict[str, Any], channel: Channel, verdict: int) -> None:
    # A box that did not start is no answer that failed.
    if channel.hear() != READY:
        return
    os.write(verdict, BEGUN)
    try:
        _try_tests(request["tests"], channel)
    except BaseException as error:  # noqa: BLE001
        said = f"failed: {_describe_failure(error)}"
    else:
        said = request["token"]
    words = said.encode(errors="replace")
    os.write(verdict, words[:1000])


def _try_tests(tests: str, channel: Channel) -> None:
    described = channel.hear()
    if "raised" in described:
        raised = _name_of(described["raised"])
        raise AnswerEnded(f"the answer raised {raised}")
    things = _stand_in(described, channel)
    module = types.ModuleType(MODULE)
    vars(module).update(things)
    sys.modules[MODULE] = module
    space = {"__name__": "tests", **things}
    _run(tests, "<tests>", space)
    # As pytest does; those that stand at the top have run by now.
    for name, function in list(space.items()):
        is_own = isinstance(function, types.FunctionType)
        # A function of the answer is no test, whatever its name.
        is_given = function is things.get(name)
        if name.startswith("test") and is_own and not is_given:
            function()


def _stand_in(described: dict[str, Any], channel: Channel) -> dict[str, Any]:
    """The answer as its tests see it: functions that ask the other box, and copies of data."""
    things: dict[str, Any] = {}
    functions = described.get("functions", ())
    constants = described.get("constants", {})
    for each in functions:
        name = str(each)
        things[name] = _asking(name, channel)
    for name, document in constants.items():
        things[name] = decode(document)
    # An answer that names a function `all` or `len` would decide what the tests see.
    free = filter(_is_free, things)
    return {name: things[name] for name in free}


def _is_free(name: str) -> bool:
    """Whether an answer may take this name in the sight of its tests."""
    is_built_in = hasattr(builtins, name)
    is_private = name.startswith("_")
    return not is_built_in and not is_private


def _asking(name: str, channel: Channel) -> Callable[..., Any]:
    def ask(*arguments: Any, **named: Any) -> Any:
        question = {
            "name": name,
            "arguments": encode(arguments),
            "named": encode(named),
        }
        channel.say(question)
        reply = channel.hear()
        if "raised" in reply:
            raised = _name_of(reply["raised"])
            raise _error_named(raised)
        if "value" not in reply:
            raise AnswerEnded("the answer wrote into the channel")
        return decode(reply["value"])

    return ask


def _error_named(name: str) -> Exception:
    """An error of that name, so that tests can expect a ValueError; never one that passes by."""
    other: Exception = RuntimeError(f"the answer raised {name}")
    kind: Any = getattr(builtins, name, None)
    if not isinstance(kind, type):
        return other
    # SystemExit is none of them: it would end the tests.
    if not issubclass(kind, Exception):
        return other
    # Their own word.
    if kind is AssertionError:
        return other
    # Some kinds cannot be made without saying more.
    with contextlib.suppress(TypeError):
        other = kind()
    return other


def _name_of(said: Any) -> str:
    # It comes from the answer, which could send a text without end.
    name = str(said)
    return name[:60]


def _describe_failure(error: BaseException) -> str:
    """The line of the tests, and what happened there."""
    line = _line_of(error)
    kind = type(error).__name__
    message = str(error)
    # One line, whatever the message: it stands in a table of outcomes.
    said = message.split()
    words = [kind, *said]
    text = " ".join(words)
    if line is None:
        return text
    place = f"line {line} of the tests"
    return f"{place}: {text}"


def _line_of(error: BaseException) -> int | None:
    # It was never run, so no step of a traceback is in it.
    if isinstance(error, SyntaxError) and error.filename == "<tests>":
        return error.lineno
    line = None
    step = error.__traceback__
    # The last one is where it happened.
    while step is not None:
        code = step.tb_frame.f_code
        if code.co_filename == "<tests>":
            line = step.tb_lineno
        step = step.tb_next
    return line


if __name__ == "__main__":
    main()
