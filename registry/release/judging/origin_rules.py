"""Whether there is evidence, and where the version came from. Nobody may waive these rules."""

from pipelines.gates.confirmation import NO_RESERVE
from pipelines.gates.policy import JudgePolicy, Policy
from pipelines.values.verdict import Finalist, Finding, Outcome
from registry.release.judging.circumstances import Circumstances, Confirmed
from registry.release.judging.findings import passed, rejected, undecided


def check_registration(finalist: Finalist, case: Circumstances) -> Finding:
    """The ledger says where these very bytes came from. Nothing replaces that entry."""
    rule, origin = "registration", case.origin
    if origin is None:
        return undecided(
            rule,
            f"The ledger does not say where version {case.version} of {case.model} came from: "
            f"train it again, or answer for it: "
            f"`assay adopt {case.version} --model {case.model} --reason …`",
        )
    # By digest and not by number: whoever may write to MLflow can edit its record.
    registered = (origin.package_sha256, origin.adapter_sha256)
    judged = (case.package_sha256, finalist.adapter.sha256)
    if registered != judged:
        return rejected(
            rule,
            f"Entry {origin.generation} registered package {origin.package_sha256[:12]} "
            f"with adapter {origin.adapter_sha256[:12]}, "
            f"judged is {case.package_sha256[:12]} with {finalist.adapter.sha256[:12]}: "
            "find out who changed MLflow's record",
        )
    how = f"trained for {origin.by}"
    if origin.is_adopted:
        how = f"{origin.by} answers for it"
    if origin.received_from is not None:
        how += f" in {origin.received_from}, whose ledger vouches for it"
    return passed(
        rule, f"Entry {origin.generation} of the ledger holds these bytes: {how}"
    )


def check_admission(case: Circumstances) -> Finding:
    """The data passes `admit` under the policy that holds now, whatever policy admitted it."""
    rule, readmission = "admit", case.admitted
    if readmission is None:
        return undecided(
            rule, "The package does not hold what `admit` read: train it again"
        )
    policy = f"{readmission.policy_name} ({readmission.policy_sha256[:12]})"
    # A pass with reasons against it contradicts itself, and is none.
    if readmission.verdict == "passed" and not readmission.reasons:
        return passed(
            rule,
            f"Policy {policy} admitted the data, and so does the one that holds now",
        )
    # What is not clearly undecided rejects.
    outcome: Outcome = "undecided" if readmission.verdict == "undecided" else "rejected"
    reasons = "; ".join(readmission.reasons) or "no rule was judged"
    text = (
        f"By the policy that holds now the data is {outcome}, "
        f"though policy {policy} admitted the data: {reasons}"
    )
    return Finding(rule=rule, outcome=outcome, text=text)


def check_screening(finalist: Finalist, case: Circumstances) -> Finding:
    """The finalist passed every rule of `screen`, and its evidence says so again."""
    rule = "screen"
    # A stored verdict can be forged: its findings are counted here once more.
    failures = [
        f"{finding.rule} is {finding.outcome}"
        for finding in finalist.findings
        if finding.outcome != "passed"
    ]
    if finalist.spec.adapter_sha256 != finalist.adapter.sha256:
        failures.append("the scored configuration names another adapter")
    total = len(finalist.findings)
    text = (
        f"{total - len(failures)} of {total} findings of screen passed, "
        f"{len(case.recomputed_differences)} differences when recomputed from the evidence"
    )
    faults = [*failures, *case.recomputed_differences]
    if faults:
        return rejected(rule, f"{text}, first {faults[0]}. Train it again")
    if case.is_older:
        return passed(rule, f"{text}. {_explain_older_package(case)}")
    return passed(rule, text)


def _explain_older_package(case: Circumstances) -> str:
    person = "nobody" if case.origin is None else case.origin.by
    return (
        "Its package is from before contents and refusals were counted "
        f"and held-out rows were kept: {person} answers for those"
    )


def check_confirmation(case: Circumstances, whole: Policy) -> Finding:
    """What passed was confirmed on sealed rows, by the ledger: a package cannot say so alone."""
    rule, found = "confirmation", case.confirmed
    if whole.gates.screen.reserve != "sealed":
        return passed(rule, NO_RESERVE)
    # Whoever answers for a version answers for this, too: nobody can confirm it any more. What a
    # block did not show to be better nobody answers for.
    origin = case.origin
    is_adopted = origin is not None and origin.is_adopted and not case.is_made_by_a_run
    if origin is not None and is_adopted and found is None:
        text = f"{origin.by} answers for it: no block of the reserve was opened"
        return passed(rule, text)
    if found is None:
        return undecided(
            rule,
            "The policy asks for a confirmation on sealed groups, and no block of the reserve was "
            "opened for this adapter. Train again, or have the policy say `reserve: none`",
        )
    fault = _confirmation_fault(found, case)
    if fault is not None:
        return rejected(rule, f"{fault}. Train another candidate")
    return passed(
        rule, f"It was confirmed on the sealed block of entry {found.generation}"
    )


def _confirmation_fault(found: Confirmed, case: Circumstances) -> str | None:
    """Why the block that was opened does not confirm this version; None where it does."""
    block = f"the block of entry {found.generation}"
    if not found.is_evidence:
        return f"The package holds other evidence than the ledger names for {block}"
    if found.against_sha256 != case.compared_adapter:
        return f"On {block} another champion was compared with than in the evidence"
    if not found.is_confirmed:
        return f"It was not shown to be better on {block}"
    return None


def check_drawable(case: Circumstances, policy: JudgePolicy) -> Finding:
    """The package holds prompts for the endpoint to draw from.

    Their answers show that this adapter, and no other, gave the scored ones.
    """
    rule = "drawn_answers"
    if case.drawable > 0:
        count = min(policy.drawn_answers, case.drawable)
        return passed(
            rule,
            f"The endpoint draws {count} of {case.drawable} held-out prompts "
            "and compares the answers",
        )
    text = "The package holds no held-out prompts to draw from"
    # It may be from before packages held their rows.
    if case.origin is not None and case.origin.is_adopted:
        return passed(
            rule,
            f"{text}: the known answers alone are asked, since {case.origin.by} answers for it",
        )
    return undecided(rule, f"{text}: train it again")
