"""What vLLM's own Python imports. Nothing here may import anything of Assay's."""
