"""Names in the environment of engine processes, which outlive an endpoint that is killed. No heavy import: a guard reads them too."""

OUTLIVES = "ASSAY_OUTLIVES"
"""Name of the service that a process outlives: what ends the rest of a service that died spares it for the service's next start."""
SYSTEM_PID = "ASSAY_SYSTEM_PID"
"""The `assay up` around a service. What outlives the service ends with that process, and not with the service's own guard."""
