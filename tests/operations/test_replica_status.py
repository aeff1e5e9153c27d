"""What `assay status` says of replicas."""

from datetime import UTC, datetime

from cli.status_text import status_lines
from operations.replica_status import ReplicaStatus
from operations.status import Status
from registry.ledger.entries import Head

LEDGER = Head(ledger_id="1" * 32, generation=14, hash="2" * 64)


def replica(name: str, generation: int = 14, **fields: object) -> ReplicaStatus:
    return ReplicaStatus.model_validate(
        {
            "name": name,
            "serves_at": "http://10.0.0.4:8080/v1",
            "generation": generation,
            "hash": LEDGER.hash if generation == LEDGER.generation else "3" * 64,
            "answers": {"letters": "fp_1"},
            "seconds_ago": 0.4,
            **fields,
        }
    )


def lines_of(*replicas: ReplicaStatus) -> list[str]:
    status = Status(
        at=datetime.now(UTC),
        services=(),
        models=(),
        waivers=(),
        frozen=None,
        ledger=LEDGER,
        followed=LEDGER,
        alarms=(),
        notices=(),
        out_of_reach=(),
        replicas=replicas,
    )
    return status_lines(status)


def test_a_replica_that_is_as_far_as_the_ledger_is_listed_and_nothing_more() -> None:
    lines = lines_of(replica("pod-1"))
    assert (
        "  ✓ pod-1 at http://10.0.0.4:8080/v1: entry 14, letters fp_1, reported 0 s ago"
        in lines
    )
    assert not any(line.startswith("!") for line in lines)


def test_one_that_lags_one_that_is_lost_and_its_alarms_are_warned_of() -> None:
    behind = replica("pod-1", 12, answers={}, alarms=("its disk is full.",))
    # As where somebody restored an older ledger, which it refuses.
    ahead = replica("pod-2", 20)
    lost = replica("pod-3", 9, lost="Replica pod-3 reports no more.")
    elsewhere = replica("pod-4", hash="4" * 64)
    lines = lines_of(behind, ahead, lost, elsewhere)
    for sentence in (
        "Replica pod-1 has followed the ledger to entry 12, not to its last, 14.",
        "Replica pod-1: its disk is full.",
        "Replica pod-2 has followed the ledger to entry 20, not to its last, 14.",
        "Replica pod-3 reports no more.",
        (
            "Replica pod-4 obeys another entry 14 than the ledger has: "
            "find out who copied the database back, and stop it."
        ),
    ):
        assert f"! {sentence}" in lines
    assert sum("✗ pod-3" in line for line in lines) == 1
    assert sum("pod-1 at" in line and "answers nothing" in line for line in lines) == 1


def test_without_replicas_nothing_is_said_of_them() -> None:
    assert "Replicas" not in lines_of()
