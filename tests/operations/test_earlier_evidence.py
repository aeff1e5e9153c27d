"""Before a run, the newest evidence on the same held-out prompts says what it can show."""

import os
from pathlib import Path

from operations.earlier_evidence import describe_earlier_power
from pipelines.gates.what_passes import describe_power
from pipelines.scoring.evidence_file import write_evidence
from pipelines.values.dataset import group_prompts
from tests.support import trials


def test_the_newest_whole_evidence_on_the_same_prompts_is_read(tmp_path: Path) -> None:
    policy = trials.policy().gates.screen
    prompts = group_prompts(trials.rows())
    assert describe_earlier_power(tmp_path, prompts, policy) == ()
    evidence = trials.evidence()
    other = trials.evidence(trials.trial(held_out=trials.rows(seed=5)))
    files = {"same": evidence, "other": other}
    for age, (name, content) in enumerate(files.items()):
        path = tmp_path / "mlflow-artifacts" / name / "evidence.parquet"
        path.parent.mkdir(parents=True)
        write_evidence(path, content)
        os.utime(path, (1000 + age, 1000 + age))
    damaged = tmp_path / "mlflow-artifacts" / "evidence.parquet"
    damaged.write_bytes(b"no parquet")
    said = describe_earlier_power(tmp_path, prompts, policy)
    assert said
    assert said == describe_power(evidence, policy)
    assert describe_earlier_power(tmp_path, prompts[1:], policy) == ()
