"""The rules of a team's server: those of `assay up`, for governed models alone.

What differs: people may register versions of a governed model themselves, from a logged model. The
ledger does not know such a version, so that it is released only once somebody answered for it with
`assay adopt`.
"""

import re
from collections.abc import Mapping
from typing import Any

from registry.mlflow.admission import Admission
from registry.mlflow.desk import Desk
from registry.mlflow.guarded_reviews import REVIEW_RULES
from registry.mlflow.guarded_stores import (
    APPROVE,
    MODELS,
    TRACKING,
    Call,
    Rule,
    check_tags,
    has_tag_of_mlflow,
    normalize,
    require_login,
    tag_keys,
)

_LOGGED_MODEL = re.compile(r"models:/(m-[0-9a-f]{32})", re.ASCII)


def admit_nothing(call: Call) -> None:
    """For what the service account alone does to a governed model."""
    if call.is_by_service:
        return
    require_login(call)
    call.refuse(
        "That model's releases are governed by Assay: "
        f"it is changed by the account {call.reach.service!r} alone"
    )


def check_registration(call: Call) -> None:
    """A person's version is a logged model, whose files nobody can change once it is registered."""
    if call.is_by_service:
        return
    check_tags(call)
    arguments = call.arguments
    keys = map(normalize, tag_keys(arguments))
    # Who registers must not approve in the same breath.
    if APPROVE in keys:
        call.refuse(f"The tag {APPROVE!r} is set on the page of a registered version")
    if has_tag_of_mlflow(call):
        call.refuse("Leave tags of MLflow's own out: one makes a prompt of a version")
    source = str(arguments["source"])
    named = _LOGGED_MODEL.fullmatch(source)
    # Files of a run can be uploaded again, and those elsewhere are out of this server's sight.
    if named is None:
        call.refuse(
            f"A version of a governed model is a logged model, and {source[:80]!r} is none: "
            "register `models:/m-…`"
        )
    model_id = arguments.get("model_id")
    # Two names could have one checked and the other registered.
    if model_id and named is not None and model_id != named[1]:
        call.refuse("source and model_id name different logged models")


def _pass(call: Call) -> None:
    """For what changes nothing of a model, a run or their files."""


def _for_methods(rule: Rule, *names: str) -> dict[str, Rule]:
    return dict.fromkeys(names, rule)


_ELSEWHERE = _for_methods(
    _pass,
    "add_guardrail_to_endpoint",
    "archive_traces",
    "attach_model_to_endpoint",
    "create_budget_policy",
    "create_endpoint_binding",
    "create_gateway_endpoint",
    "create_gateway_guardrail",
    "create_gateway_model_definition",
    "create_gateway_secret",
    "create_mcp_access_endpoint",
    "create_mcp_server",
    "create_mcp_server_version",
    "delete_budget_policy",
    "delete_endpoint_binding",
    "delete_gateway_endpoint",
    "delete_gateway_endpoint_tag",
    "delete_gateway_guardrail",
    "delete_gateway_model_definition",
    "delete_gateway_secret",
    "delete_mcp_access_endpoint",
    "delete_mcp_server",
    "delete_mcp_server_alias",
    "delete_mcp_server_tag",
    "delete_mcp_server_version",
    "delete_mcp_server_version_tag",
    "detach_model_from_endpoint",
    "link_mcp_server_versions_to_trace",
    "remove_guardrail_from_endpoint",
    "set_gateway_endpoint_tag",
    "set_mcp_server_alias",
    "set_mcp_server_tag",
    "set_mcp_server_version_tag",
    "update_budget_policy",
    "update_endpoint_guardrail_config",
    "update_gateway_endpoint",
    "update_gateway_model_definition",
    "update_gateway_secret",
    "update_mcp_access_endpoint",
    "update_mcp_server",
    "update_mcp_server_version",
)
"""MLflow's gateway, its registry of MCP servers, and the archive of traces."""
_WITHIN = _for_methods(
    _pass,
    "end_async_logging",
    "flush_async_logging",
    "log_batch_async",
    "log_metric_async",
    "log_param_async",
    "log_spans_async",
    "resolve_endpoint_in_scorer",
    "resolve_trace_archival_config",
    "sanitize_metric_value",
    # MLflow's note on a logged model of which versions there are.
    "set_model_versions_tags",
    "set_tag_async",
    "shut_down_async_logging",
    "sum_gateway_trace_cost",
)
"""They read, or call methods that have a rule."""

TEAM_TRACKING: Mapping[str, Rule] = {
    **TRACKING,
    **REVIEW_RULES,
    **_ELSEWHERE,
    **_WITHIN,
}


def team_models(desk: Desk) -> Mapping[str, Rule]:
    """The rules of the store of models, for the people of one project."""
    rules: dict[str, Any] = {**MODELS, **Admission(desk).rules}
    # A governed name can be what is renamed, and what it is renamed to.
    rules |= _for_methods(
        admit_nothing, "rename_registered_model", "copy_model_version"
    )
    rules["create_model_version"] = check_registration
    return rules
