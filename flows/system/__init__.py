"""Everything that `assay up` starts, keeps alive and ends."""
