"""Uncertainty: how far to trust a difference between systems, or between groups.

bootstrap.py     sums by cluster ──► resampled corpora ──► intervals and paired differences
group_rates.py   observations by sensitive group ──► rates, gaps and their intervals (fairlearn)
power.py         clusters and spread ──► the smallest effect that they can show
"""
