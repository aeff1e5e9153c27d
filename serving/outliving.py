"""Names in the environment of engine processes, which outlive an endpoint that is killed.

No heavy import: the guard of a service reads them too.
"""

# Name of the service that a process outlives. Whatever ends the other processes of a service that
# died spares this one for the service's next start.
OUTLIVES = "ASSAY_OUTLIVES"
# The `assay up` around a service. A process that outlives the service ends with that `assay up`,
# and not with the service's own guard.
SYSTEM_PID = "ASSAY_SYSTEM_PID"
