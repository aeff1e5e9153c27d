"""What training writes to `progress.jsonl`, as curves of the MLflow run."""

from flows.run.record import _curves


def test_a_line_about_checkpoints_sends_figures_alone() -> None:
    line = {
        "of": 6,
        "resumed": 4,
        "refused": ["checkpoint-6 is not used (optimizer.pt is not what was written)"],
    }
    assert _curves(line) == {"train.resumed": 4}
    assert _curves({"of": 6, "loss": 1.5}) == {"train.loss": 1.5}
