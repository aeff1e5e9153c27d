"""What gates decide with. The gates themselves are stages: `admit`, `screen` and `judge`.

policy.py        YAML in registry/policies ──► limits; one that lets anything pass does not load
comparisons.py   evidence ──► the adapter against each system, with bounds
bias_check.py    bias report ──► findings: it agrees with itself and keeps to the limits
"""
