"""What the endpoint does beside answering: a YAML file that `ASSAY_ENDPOINT_RULES` names.

Without one it records, guards and falls back to nothing. A file that does not parse keeps the
endpoint from starting: guardrails that somebody wrote are never left out in silence.
"""

from pathlib import Path

import yaml
from pydantic import ValidationError

from core.errors import ServingError
from core.value import Settable, first_problem
from serving.endpoint.fallback import FallbackRules
from serving.guardrails.rules import GuardRules
from serving.observing.records import Bounds, RequestRecordRules

# Bytes; aliases that grow when they are read are refused by the loader below.
_LARGEST_FILE = 1_000_000


class EndpointRules(Settable):
    """The whole file. What is left out is off."""

    requests: RequestRecordRules | None = None
    feedback: Bounds | None = None
    guardrails: GuardRules = GuardRules()
    fallback: FallbackRules | None = None


class _WithoutAliases(yaml.SafeLoader):
    """YAML in which nothing refers to something else."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """A node, unless it is an alias."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not read here")
        return super().compose_node(parent, index)


def read_rules(path: Path) -> EndpointRules:
    """Read a file of rules; `ServingError` where it is missing or does not fit."""
    try:
        text = path.read_bytes()[: _LARGEST_FILE + 1]
        if len(text) > _LARGEST_FILE:
            raise ServingError(
                f"The endpoint's rules {path} are over {_LARGEST_FILE} bytes. "
                "Shorten their lists of words."
            )
        document = yaml.load(text.decode("utf-8"), _WithoutAliases)  # noqa: S506 - a SafeLoader
        return EndpointRules.model_validate({} if document is None else document)
    except ValidationError as error:
        problem = first_problem(error)
        raise ServingError(
            f"The endpoint's rules {path} do not fit: {problem}. "
            "Fix them; nothing is served without the rules that somebody wrote."
        ) from error
    # yaml raises a ValueError for the date 2024-13-45.
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise ServingError(
            f"The endpoint's rules {path} cannot be read ({type(error).__name__}). "
            "Bring them back, or unset ASSAY_ENDPOINT_RULES."
        ) from error
