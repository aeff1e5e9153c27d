"""Python imports this at the start of each process of vLLM's: none outlives its parent.

vLLM's core goes on where its server is killed, and holds the weights.
"""

import ctypes
import signal
import sys

# Of prctl(2): the signal with which the kernel ends a process when its parent ends.
_PR_SET_PDEATHSIG = 1
# It ends by itself, and gives back the shared memory of those that were killed.
_CLEANS_UP = "resource_tracker"

if not any(_CLEANS_UP in word for word in sys.orig_argv):
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
