"""What Assay costs and gains, each against a peer in the same run."""
