"""`assay init`: a project of Assay in a person's own git repository."""
