"""`assay backup` and `assay restore`: a home in one folder, verified byte by byte.

home ──create.py──> folder with backup.json ──restore.py──> empty home
copying.py    copies with their digests, and folders that appear complete or not at all
manifest.py   what a backup holds, and whether every byte of it is what was copied
"""
