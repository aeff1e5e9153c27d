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
from typing import Any, BinaryIO

BEGUN = b"begun\n"
"""What the tests' box says first: both boxes stand, so whatever follows is about the answer."""
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
        pairs = [[encode(key), encode(entry)] for key, entry in thing.items()]
        return {"dict": pairs}
    for name, kind in _CONTAINERS.items():
        if isinstance(thing, kind):
            return {name: [encode(entry) for entry in thing]}
    # In base 16, which loses nothing, and for which readers have no limit of digits.
    for name, (kind, write) in _WRITERS.items():
        if isinstance(thing, kind):
            return {name: write(thing)}
    kind_name = type(thing).__name__
    raise Unsendable(f"{kind_name} is no plain data")


def decode(document: Any) -> Any:
    """What `encode` was given; `AnswerEnded` for any other document."""
    if document is None or isinstance(document, bool | str):
        return document
    try:
        [(name, content)] = document.items()
        return _decode_tagged(name, content)
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
        raise AnswerEnded("the answer gave what is no plain data") from error


def _decode_tagged(name: str, content: Any) -> Any:
    if name == "int":
        return int(content, 16)
    if name == "float":
        return float.fromhex(content)
    if name == "complex":
        real, imaginary = map(float.fromhex, content)
        return complex(real, imaginary)
    if name == "bytes":
        return bytes.fromhex(content)
    if name == "dict":
        return {decode(key): decode(entry) for key, entry in content}
    entries = [decode(entry) for entry in content]
    if name not in _CONTAINERS:
        raise ValueError(name)
    return _CONTAINERS[name](entries)


# What both boxes do first.


def main() -> None:
    """Read what to run from standard input, and run it within the limits that stand there."""
    side, *numbers = sys.argv[1:]
    request = json.load(sys.stdin)
    _keep_limits(request["limits"])
    # The box's own words are over: what runs now prints into nothing.
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nowhere, number)
    os.close(nowhere)
    channel, *rest = map(int, numbers)
    reading = os.fdopen(channel, "rb")
    writing = os.fdopen(os.dup(channel), "wb")
    if side == "answer":
        _serve_answer(request["code"], reading, writing)
    else:
        _run_tests(request, Channel(reading, writing), rest[0])
    # Threads that were left behind hold nothing up.
    os._exit(0)


def _keep_limits(limits: dict[str, int]) -> None:
    # Hard limits: only a capability that no box has would raise them again.
    for name, most in limits.items():
        number = getattr(resource, f"RLIMIT_{name}")
        _, hard = resource.getrlimit(number)
        # Assay itself may run under a narrower one.
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(number, (least, least))


class Channel:
    """Lines of JSON to and from the other box."""

    def __init__(self, reading: BinaryIO, writing: BinaryIO) -> None:
        self.reading = reading
        self.writing = writing

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


def _serve_answer(code: str, reading: BinaryIO, writing: BinaryIO) -> None:
    channel = Channel(reading, writing)
    # Said before a line of the answer is run.
    channel.say({"ready": True})
    module = types.ModuleType(MODULE)
    sys.modules[MODULE] = module
    try:
        exec(compile(code, "<answer>", "exec", dont_inherit=True), vars(module))  # noqa: S102
    # SystemExit, too: an answer that leaves has not answered.
    except BaseException as error:  # noqa: BLE001
        channel.say({"raised": type(error).__name__})
        return
    channel.say(_describe(module))
    # Until the tests have ended.
    with contextlib.suppress(AnswerEnded):
        while True:
            asked = channel.hear()
            channel.say(_call(module, asked))


def _describe(module: types.ModuleType) -> dict[str, Any]:
    """The answer's functions by name, and its constants that are plain data."""
    functions = []
    constants = {}
    for name, thing in list(vars(module).items()):
        if name.startswith("_"):
            continue
        if callable(thing):
            functions.append(name)
            continue
        with contextlib.suppress(Unsendable, RecursionError):
            constants[name] = encode(thing)
    return {"functions": functions, "constants": constants}


def _call(module: types.ModuleType, asked: dict[str, Any]) -> dict[str, Any]:
    try:
        function = getattr(module, asked["name"])
        arguments = decode(asked["arguments"])
        named = decode(asked["named"])
        given = function(*arguments, **named)
        return {"value": encode(given)}
    except BaseException as error:  # noqa: BLE001
        return {"raised": type(error).__name__}


# The tests.


def _run_tests(request: dict[str, Any], channel: Channel, verdict: int) -> None:
    # A box that did not start is no answer that failed.
    if channel.hear() != {"ready": True}:
        return
    os.write(verdict, BEGUN)
    try:
        _try_tests(request["tests"], channel)
    except BaseException as error:  # noqa: BLE001
        said = f"failed: {_describe_failure(error)}"
    else:
        said = request["token"]
    os.write(verdict, said.encode(errors="replace")[:1000])


def _try_tests(tests: str, channel: Channel) -> None:
    described = channel.hear()
    if "raised" in described:
        raise AnswerEnded(f"the answer raised {_name_of(described['raised'])}")
    module = _stand_in(described, channel)
    sys.modules[MODULE] = module
    space = {"__name__": "tests", **_public(module)}
    exec(compile(tests, "<tests>", "exec", dont_inherit=True), space)  # noqa: S102
    # As pytest does; those that stand at the top have run by now.
    for name, function in list(space.items()):
        is_test = name.startswith("test") and isinstance(function, types.FunctionType)
        if is_test:
            function()


def _stand_in(described: dict[str, Any], channel: Channel) -> types.ModuleType:
    """The answer as its tests see it: functions that ask the other box, and copies of data."""
    module = types.ModuleType(MODULE)
    things: dict[str, Any] = {}
    for name in described.get("functions", ()):
        things[str(name)] = _asking(str(name), channel)
    for name, document in described.get("constants", {}).items():
        things[name] = decode(document)
    for name, thing in things.items():
        # An answer that names a function `all` or `len` would decide what the tests see.
        if not hasattr(builtins, name) and not name.startswith("_"):
            setattr(module, name, thing)
    return module


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
            raise _error_named(_name_of(reply["raised"]))
        if "value" not in reply:
            raise AnswerEnded("the answer wrote into the channel")
        return decode(reply["value"])

    return ask


def _error_named(name: str) -> Exception:
    """An error of that name, so that tests can expect a ValueError; never one that passes by."""
    kind: Any = getattr(builtins, name, None)
    is_error = isinstance(kind, type) and issubclass(kind, Exception)
    # An AssertionError is the tests' own word.
    if is_error and kind is not AssertionError:
        # Some kinds cannot be made without saying more.
        with contextlib.suppress(TypeError):
            error: Exception = kind()
            return error
    return RuntimeError(f"the answer raised {name}")


def _name_of(said: Any) -> str:
    name = str(said)
    return name[:60]


def _public(module: types.ModuleType) -> dict[str, Any]:
    return {
        name: thing for name, thing in vars(module).items() if not name.startswith("_")
    }


def _describe_failure(error: BaseException) -> str:
    """The line of the tests, and what happened there."""
    line = None
    step = error.__traceback__
    while step is not None:
        if step.tb_frame.f_code.co_filename == "<tests>":
            line = step.tb_lineno
        step = step.tb_next
    if isinstance(error, SyntaxError) and error.filename == "<tests>":
        line = error.lineno
    words = str(error).split()
    text = " ".join([type(error).__name__, *words])
    return text if line is None else f"line {line} of the tests: {text}"


if __name__ == "__main__":
    main()
