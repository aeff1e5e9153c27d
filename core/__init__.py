"""What every other room uses; it imports none of them.

values     value ─ frozen records    files, private_file ─ written whole    errors ─ the tree
place      project ─ the folder      home ─ its private folder    settings, environment ─ variables
processes  locks    lifetime, stopping ─ their end    system_record ─ what `assay up` runs    git
people     console, progress ─ output    notify ─ notices    account ─ who acts
network    address, logs ─ no secret is shown    loopback ─ this machine    download ─ pinned files
"""
