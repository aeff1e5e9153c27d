"""What a person may be for: the roles that `people.yaml` gives and that policies name."""

from typing import Literal

PersonRole = Literal["author", "reviewer", "approver", "release_manager", "auditor"]
