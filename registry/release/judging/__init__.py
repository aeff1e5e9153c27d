"""What `registry/release/judge.py` looks at, and its rules: a file for each kind of them."""
