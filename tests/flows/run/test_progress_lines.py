"""What training writes to `progress.jsonl`, as curves of the MLflow run."""

from flows.run.mlflow_run import curves


def test_a_line_about_checkpoints_sends_figures_alone() -> None:
    line = {
        "of": 6,
        "resumed": 4,
        "refused": ["checkpoint-6 is not used (optimizer.pt is not what was written)"],
    }
    assert curves(line) == {"train.resumed": 4}
    assert curves({"of": 6, "loss": 1.5}) == {"train.loss": 1.5}
