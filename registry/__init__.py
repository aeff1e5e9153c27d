"""WHERE models live. The only package that imports mlflow."""
