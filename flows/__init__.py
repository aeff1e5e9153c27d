"""WHEN things run and in what order. The only package that imports prefect."""
