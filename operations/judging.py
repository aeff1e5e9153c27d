"""`assay gate judge`: what a promotion would say of a version, for CI and for people."""

from pathlib import Path
from typing import TYPE_CHECKING

from core.environment import set_library_environment
from core.files import write_text
from operations.model_address import ModelAddress
from operations.orders import current_project

if TYPE_CHECKING:
    from flows.judgement import Judgement
    from operations.gate_report.report import GateReport


def judge_address(address: ModelAddress, *, record: bool) -> "Judgement":
    """Judge a registered version and release nothing; errors as of `judge_version`."""
    set_library_environment()
    # After the settings above: libraries read them when they are imported.
    from flows.judgement import judge_version

    return judge_version(
        current_project(),
        address.name,
        address.version,
        record=record,
    )


def write_reports(
    report: "GateReport", junit: Path | None, markdown: Path | None
) -> None:
    """Write the files that were asked for, whole or not at all."""
    from operations.gate_report.junit import to_junit
    from operations.gate_report.markdown import to_markdown

    if junit is not None:
        write_text(junit, to_junit(report))
    if markdown is not None:
        write_text(markdown, to_markdown(report))


def describe_judgement(judgement: "Judgement") -> dict[str, object]:
    """What `--json` prints, as one line."""
    version, verdict = judgement.version, judgement.verdict
    head = judgement.ledger_state.head
    return {
        "model": version.name,
        "version": version.version,
        "verdict": verdict.verdict,
        "findings": [finding.model_dump() for finding in verdict.findings],
        "policy_sha256": verdict.policy_sha256,
        "package_sha256": version.package_sha256,
        "fingerprint": judgement.finalist.spec.fingerprint,
        "waivers": list(getattr(verdict, "waivers", ())),
        "ledger_entry": head.generation,
        "is_recorded": judgement.is_recorded,
    }
