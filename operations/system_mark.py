"""The mark of one home's services, which finds them even after `assay up` was killed."""

from pathlib import Path

from operations.supervise.processes import Mark


def system_mark(home: Path) -> Mark:
    """Give the mark of that home: every service carries it and passes it on to its children."""
    path = home.resolve()
    return Mark("ASSAY_SERVICES", str(path))
