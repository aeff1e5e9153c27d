"""The rules of `pipelines/stages/screen.py`, a file for each kind of them."""
