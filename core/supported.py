"""Where Assay can run: which Pythons, which operating systems.

Kept free of imports that only some systems have: this is read before anything else.
"""

import sys

OLDEST = (3, 11)
NEWEST = (3, 13)
"""As `requires-python` in pyproject.toml; the lock is for these and what lies between."""


def describe_unsupported_python(
    version: tuple[int, int] = sys.version_info[:2],
) -> str | None:
    """One sentence for a Python that the lock is not for; None for the others."""
    # Asked as a pass: a newer one has no wheels in the lock.
    if OLDEST <= version <= NEWEST:
        return None
    return (
        f"This is Python {version[0]}.{version[1]}, and Assay needs "
        f"{_name(OLDEST)} to {_name(NEWEST)}. "
        f"Make the environment with one of those: make PYTHON=python{_name(OLDEST)} ..."
    )


def describe_unsupported_system(system: str = sys.platform) -> str | None:
    """One sentence for an operating system on which nothing works; None for the others."""
    if system.startswith(("win", "cygwin")):
        return (
            "Assay does not run on Windows itself, whose files and processes cannot be locked "
            "and guarded as it needs. Use WSL 2."
        )
    return None


def describe_untried_system(system: str = sys.platform) -> str | None:
    """What does not work on a system that is not Linux, as one sentence; None on Linux."""
    if system == "linux":
        return None
    return (
        f"This is {system}, where Assay was never run and `assay up` does not work. "
        "Take Linux, or read docs/reference/platforms.md for what is known."
    )


def _name(version: tuple[int, int]) -> str:
    major = version[0]
    minor = version[1]
    return f"{major}.{minor}"
