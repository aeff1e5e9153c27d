"""What metrics that are a mean over rows have in common."""

from pipelines.metrics.metric import FloatArray


def share_of(sums: FloatArray) -> FloatArray:
    """The first statistic over the second, which counts rows and is never 0."""
    counted = sums[..., 0]
    rows = sums[..., 1]
    return counted / rows
