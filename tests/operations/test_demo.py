"""What `assay demo` asks for. The demo itself takes a quarter of an hour: `make demo` runs it."""

from pathlib import Path

from core.project import Project
from operations.demo import request_of
from pipelines.gates.policy import load_policy

ROOT = Path(__file__).resolve().parents[2]


def test_the_demo_is_judged_by_the_policy_of_its_model(tmp_path: Path) -> None:
    request = request_of(Project(ROOT, tmp_path))
    assert request.policy == ROOT / "registry/policies/cheat-smollm2.yaml"
    # Half of its 37 held-out groups would be too few to judge by.
    assert load_policy(request.policy).gates.screen.reserve == "none"
