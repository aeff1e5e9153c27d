"""A grammar compiled once in a process of its own, so that what hangs or breaks ends there alone.

llguidance bounds most of its work, and not all: a few kilobytes of `multipleOf` keep it busy for
minutes, and references inside of each other overflow its stack, which ends a process. The child
runs this very file, which imports nothing of ours.
"""

import resource
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llguidance import LLParserLimits

_PROCESSOR_SECONDS = 2
_MOST_BYTES = 1 << 30
# For a machine on which others compute as well.
_SECONDS = 20.0
# Characters of a schema as JSON, and words of which a few may take minutes.
_LONGEST_HARMLESS = 4_000
_DEAR_WORDS = ("multipleOf", "pattern", "allOf", "$ref")
_TOO_COMPLEX = "it is too complex to be compiled"


def parser_limits() -> "LLParserLimits":
    """What one grammar may cost: others wait while the next token of its answer is found.

    A step takes about 10 ms at the most, and what it remembers about 40 MB.
    """
    from llguidance import LLParserLimits

    return LLParserLimits(
        initial_lexer_fuel=300_000,
        step_lexer_fuel=30_000,
        step_max_items=10_000,
        max_lexer_states=20_000,
        max_grammar_size=100_000,
        # Errors without the answer's text.
        verbose_errors=False,
    )


def needs_trial(schema: str) -> bool:
    """Whether a JSON Schema may take longer than milliseconds to compile."""
    is_long = len(schema) > _LONGEST_HARMLESS
    return is_long or any(word in schema for word in _DEAR_WORDS)


def try_grammar(grammar: str) -> str:
    """What is wrong with a grammar of llguidance's; empty where it compiles within the limits."""
    try:
        tried = subprocess.run(
            # Without `-P` the modules beside this one would pass for libraries of their names.
            [sys.executable, "-P", __file__],
            input=grammar.encode(),
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return _TOO_COMPLEX
    if tried.returncode != 0:
        return _TOO_COMPLEX
    return tried.stdout.decode(errors="replace")


def _try_here() -> None:
    from llguidance import LLMatcher, LLTokenizer

    grammar = sys.stdin.read()
    seconds = (_PROCESSOR_SECONDS, _PROCESSOR_SECONDS)
    resource.setrlimit(resource.RLIMIT_CPU, seconds)
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_BYTES, _MOST_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Which tokens there are makes no difference to what is dear.
    tokenizer = LLTokenizer("byte")
    matcher = LLMatcher(tokenizer, grammar, log_level=0, limits=parser_limits())
    sys.stdout.write(matcher.get_error())


if __name__ == "__main__":
    _try_here()
