"""The code in an answer: its first code block, or all of it."""

import re

_BLOCK = re.compile(r"^```[^\n]*\n(.*?)(?:^```|\Z)", re.DOTALL | re.MULTILINE)


def find_blocks(answer: str) -> list[str]:
    """The contents of the answer's code blocks; the last one may be open."""
    find = _BLOCK.findall
    blocks: list[str] = find(answer)
    return blocks


def find_code(answer: str) -> str:
    """The first code block, or the whole answer where it has none."""
    blocks = find_blocks(answer)
    if blocks:
        return blocks[0]
    return answer
