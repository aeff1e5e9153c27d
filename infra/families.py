"""Write the table of base model families into its page, from the list that the tests check.

Run it as `python -m infra.families`.
"""

from pathlib import Path

from core.files import write_text
from tests.support.families.table import list_architectures, make_table

PAGE = Path(__file__).parents[1] / "docs/reference/base-models.md"
_BEGIN, _END = "<!-- families -->", "<!-- end of families -->"


def with_table(page: str) -> str:
    """Put the table between the page's two marks; `ValueError` where it lacks one."""
    before, begin, rest = page.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"{PAGE.name} has no {_BEGIN} or no {_END}. Write it back.")
    made = f"{make_table()}\n\n{list_architectures()}"
    return f"{before}{_BEGIN}\n{made}\n{_END}{after}"


def main() -> None:
    """Replace the table."""
    write_text(PAGE, with_table(PAGE.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
