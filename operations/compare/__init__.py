"""`assay compare A B`: two versions or runs on the rows that both answered.

sides.py   a version, a run or a folder, with its evidence
shared.py  the prompts that both were asked, with the same references
differ.py  paired differences by metric; refuses what cannot be compared
page.py    the same as one HTML page, with the sections of registry.report

Only the standing rows of both are read: those of a sealed block, opened or not, are in other files.
"""
