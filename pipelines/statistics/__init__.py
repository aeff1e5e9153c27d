"""Uncertainty: how far to trust a difference between systems, or between groups.

bootstrap.py     sums by cluster ──► resampled corpora ──► intervals and paired differences
jackknife.py     scores without one cluster each ──► standard errors and t bounds
group_rates.py   observations by sensitive group ──► their rates (fairlearn)
group_gaps.py    the same ──► signed gaps between groups, with intervals for all pairs at once
gate_power.py    what each cluster adds ──► how often all rules together would pass
power.py         clusters and spread ──► the smallest effect that they can show
"""
