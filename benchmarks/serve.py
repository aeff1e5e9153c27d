"""How many tokens a second the engine serves.

`python -m benchmarks.serve [--short] [--home DIR] [--engine transformers] [--precision int8]`

The peers serve the same weights (SmolLM2-135M in float32) with the same threads to the same
clients: `transformers serve --continuous-batching`, and llama.cpp's server from xllamacpp. All
servers are loaded at once, and one at a time is asked: the order changes with each round.

- Tokens a second at 1, 4 and 16 clients, each of which streams one greedy answer after the other.
- Time to the first text and to the end of an answer, p50 and p95.
- Resident memory of the server after the last round.

The clients run on the same processor. The servers are asked directly, without Assay's endpoint in
front of its engine. The engine is the one that answers in the end: OpenVINO, where it is installed.

Goals: at least twice the better peer's tokens a second at 16 clients, no fewer than it at one, and
at 4 clients a median time to the first text that is no longer than either's.
"""

import argparse
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.chat_clients import Measured, measure
from benchmarks.chat_servers import (
    Running,
    Weights,
    assay,
    llama_cpp,
    prepare_weights,
    transformers_serve,
    wait_until_answers,
)
from benchmarks.site import print_result
from core.settings import Settings
from pipelines.engines import TRANSFORMERS
from pipelines.values.engine_name import ENGINE_NAMES
from pipelines.values.precision import PRECISIONS
from serving.endpoint.engine_choice import read_wish

CLIENTS = (1, 4, 16)
GOAL = 2.0
"""Times the better peer's tokens a second at most clients."""
THREADS = 2
_COMMANDS = ("tar", "find", "git", "ssh", "grep", "sed", "awk", "curl", "rsync", "ps")
_WISHES = (
    "list everything that is newer than a day",
    "show only the first ten lines of the output",
    "copy all of it to another machine",
    "count how often each word appears",
    "undo the last change and keep the files",
    "stop after the first match",
    "work on every file below a folder",
)


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    rounds: int
    # Answers of one stretch, by the number of clients.
    answers: dict[int, int]
    max_tokens: int


FULL = Size(rounds=3, answers={1: 6, 4: 16, 16: 64}, max_tokens=48)
SHORT = Size(rounds=1, answers={1: 3, 4: 8, 16: 32}, max_tokens=32)

Results = dict[str, dict[int, list[Measured]]]


def main(arguments: list[str]) -> int:
    """Measure, print one JSON line last, and fail where a goal is missed."""
    options = _parser().parse_args(arguments)
    size = SHORT if options.short else FULL
    with tempfile.TemporaryDirectory(prefix="assay-benchmark-") as scratch:
        home = options.home or Path(scratch)
        weights = prepare_weights(home)
        words = ["--engine", options.engine, "--precision", options.precision]
        results, memory = _measure_all(size, weights, home, words)
    _show(results, memory)
    judged = _judged(results, memory)
    how = {"engine": options.engine, "precision": options.precision}
    return print_result({**judged, **how})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serve")
    parser.add_argument("--short", action="store_true", help="within five minutes")
    parser.add_argument(
        "--home",
        type=Path,
        help="keep weights and llama.cpp's environment there for the next time",
    )
    parser.add_argument(
        "--engine",
        choices=ENGINE_NAMES,
        default=read_wish(Settings()).choose(TRANSFORMERS).lasting,
        help="what Assay's engine computes by (default: what lasts in an endpoint here)",
    )
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="float32",
        help="of Assay's engine alone; the others serve float32 (default: float32)",
    )
    return parser


def _measure_all(
    size: Size, weights: Weights, home: Path, words: list[str]
) -> tuple[Results, dict[str, float]]:
    with ExitStack() as stack:
        servers = [
            stack.enter_context(assay(weights, THREADS, *words)),
            stack.enter_context(transformers_serve(weights, THREADS)),
            stack.enter_context(llama_cpp(weights, THREADS, home)),
        ]
        for server in servers:
            wait_until_answers(server)
        results: Results = {server.name: {} for server in servers}
        for number in range(size.rounds):
            _measure_round(size, number, servers, results)
        memory = {server.name: server.resident_mb() for server in servers}
    return results, memory


def _measure_round(
    size: Size, number: int, servers: list[Running], results: Results
) -> None:
    order = servers[number % len(servers) :] + servers[: number % len(servers)]
    for clients in CLIENTS:
        questions = _questions(number, size.answers[clients])
        for server in order:
            stretch = measure(server.target, questions, clients, size.max_tokens)
            results[server.name].setdefault(clients, []).append(stretch)
            sys.stderr.write(
                f"round {number + 1}, {clients} clients, {server.name}: "
                f"{stretch.tokens_per_second:.1f} tokens/s\n"
            )


def _questions(number: int, count: int) -> list[str]:
    """Wishes as in the demo's data; the same for each server, others in each round."""
    questions = []
    for place in range(count):
        which = number * count + place
        command = _COMMANDS[which % len(_COMMANDS)]
        wish = _WISHES[which % len(_WISHES)]
        questions.append(
            f"Write one shell command with {command}: {wish}, number {which}"
        )
    return questions


def _together(stretches: list[Measured]) -> Measured:
    """All rounds as one."""
    seconds = sum(stretch.seconds for stretch in stretches)
    answers = [answer for stretch in stretches for answer in stretch.answers]
    return Measured(seconds, tuple(answers))


def _judged(results: Results, memory: dict[str, float]) -> dict[str, object]:
    figures = {
        name: {clients: _together(each) for clients, each in by_clients.items()}
        for name, by_clients in results.items()
    }
    own = figures.pop("assay")
    ratios = {
        clients: own[clients].tokens_per_second
        / max(peer[clients].tokens_per_second for peer in figures.values())
        for clients in CLIENTS
    }
    quickest = min(peer[4].first_p50 for peer in figures.values())
    goals = {
        f"{GOAL:g} x the better peer at 16 clients": ratios[16] >= GOAL,
        "no slower at one client": ratios[1] >= 1,
        "first text at 4 clients no later": own[4].first_p50 <= quickest,
    }
    return {
        "name": "serve",
        "value": round(ratios[16], 2),
        "unit": "tokens/s at 16 clients / those of the better peer",
        "goal": f">= {GOAL:g}",
        "met": all(goals.values()),
        "goals": goals,
        "ratios": {clients: round(ratio, 2) for clients, ratio in ratios.items()},
        "threads": THREADS,
        "resident_mb": {name: round(size) for name, size in memory.items()},
        "servers": {
            name: {clients: each.figures() for clients, each in by_clients.items()}
            for name, by_clients in {"assay": own, **figures}.items()
        },
    }


def _show(results: Results, memory: dict[str, float]) -> None:
    """The same as a table, for people."""
    say = sys.stderr.write
    say(f"{'server':<20}{'clients':>8}{'tok/s':>8}{'ttft p50':>10}{'p95':>8}")
    say(f"{'whole p50':>11}{'p95':>8}{'MB':>7}\n")
    for name, by_clients in results.items():
        for clients, stretches in by_clients.items():
            each = _together(stretches)
            say(
                f"{name:<20}{clients:>8}{each.tokens_per_second:>8.1f}"
                f"{each.first_p50:>10.2f}{each.first_p95:>8.2f}"
                f"{each.whole_p50:>11.2f}{each.whole_p95:>8.2f}{memory[name]:>7.0f}\n"
            )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
