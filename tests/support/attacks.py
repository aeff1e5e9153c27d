"""Answers that attack their box. Each gives 4 for `square(2)` where the attack succeeds."""

LEFT_BEHIND = "60000.125"
"""The argument of a child that would outlive its answer."""
_LIBC = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
"""

ATTACKS = {
    "exits with 0 while it is loaded": "import os\nos._exit(0)",
    "exits with 0 when it is called": "import os\ndef square(x):\n    os._exit(0)",
    "leaves by sys.exit": "import sys\nsys.exit(0)",
    "leaves by sys.exit when it is called": "import sys\ndef square(x):\n    sys.exit(0)",
    "prints success": """
import sys
print("passed", flush=True)
print("begun\\npassed", file=sys.stderr, flush=True)
def square(x):
    return 0
""",
    "writes every word that it finds in memory to every descriptor": """
import gc, os, re, sys
def square(x):
    words = {"begun", "passed"}
    frame = sys._getframe()
    while frame:
        words |= set(re.findall(r"[0-9a-f]{32}", repr(frame.f_locals)))
        frame = frame.f_back
    for thing in gc.get_objects():
        if isinstance(thing, (dict, list, tuple)):
            words |= set(re.findall(r"[0-9a-f]{32}", repr(thing)[:100000]))
    for number in range(64):
        for word in words:
            try:
                os.write(number, word.encode())
            except OSError:
                pass
    return 0
""",
    "reads what was on its standard input": """
import os
def square(x):
    try:
        os.lseek(0, 0, 0)
        return 4 if os.read(0, 100000) else 0
    except OSError:
        return 0
""",
    "gives an object that equals everything": """
class Same:
    def __eq__(self, other):
        return True
def square(x):
    return Same()
""",
    "gives a number that equals everything": """
class Same(int):
    def __eq__(self, other):
        return True
def square(x):
    return Same(3)
""",
    "names functions as built-in ones": """
def all(x): return True
def len(x): return 4
def AssertionError(*x): return None
def square(x): return 0
""",
    "changes built-in functions": """
import builtins
builtins.all = builtins.any = lambda x: True
builtins.AssertionError = ZeroDivisionError
builtins.isinstance = lambda a, b: True
def square(x): return 0
""",
    "raises what the tests raise": "def square(x):\n    raise AssertionError",
    "answers before it is asked": """
import os
for number in range(3, 64):
    try:
        os.write(number, b'{"functions": ["square"], "constants": {}}\\n' + b'{"value": 4}\\n')
    except OSError:
        pass
os._exit(0)
""",
    "floods the channel": """
import os
def square(x):
    for number in range(3, 64):
        try:
            while True:
                os.write(number, b"[" * 65536)
        except OSError:
            pass
""",
    "closes every descriptor": "import os\nos.closerange(0, 64)\ndef square(x): return 4",
    "reads the environment": """
import os
def square(x):
    return 4 if "A_SECRET" in os.environ else 0
""",
    "reads files of the machine": """
import os
def square(x):
    for path in ("/etc/passwd", "/root", "/home", "/work", "/proc", "/sys", "/var", "/run"):
        if os.path.lexists(path):
            return 4
    return 0
""",
    "follows links out of its box": """
import os
def square(x):
    for target in ("/proc/1/root/etc/passwd", "../../../../etc/passwd", "/etc/passwd"):
        os.symlink(target, "/tmp/link")
        if os.path.exists("/tmp/link"):
            return 4
        os.unlink("/tmp/link")
    return 0
""",
    "changes installed programs": """
import os
def square(x):
    for folder, _, _ in os.walk("/usr/bin"):
        try:
            open(folder + "/assay-was-here", "w").close()
            return 4
        except OSError:
            pass
    return 0
""",
    "opens sockets": """
import socket
def square(x):
    for family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX, socket.AF_VSOCK):
        try:
            socket.socket(family, socket.SOCK_STREAM)
            return 4
        except OSError:
            pass
    return 0
""",
    "takes a gigabyte of memory": """
def square(x):
    try:
        return 4 if bytearray(1 << 30) else 0
    except MemoryError:
        return 0
""",
    "takes memory that belongs to no process": _LIBC
    + """
def square(x):
    if libc.shmget(0, 1 << 20, 0o1600) >= 0:
        return 4
    if libc.syscall(319, b"x", 0) >= 0 or libc.syscall(279, b"x", 0) >= 0:
        return 4
    return 0
""",
    "fills the disk": """
import os
def square(x):
    written = 0
    for folder in ("/tmp", "/dev", "/dev/shm", "/", "/var/tmp", "/run"):
        for number in range(8):
            try:
                with open(f"{folder}/fill{number}", "wb") as file:
                    for _ in range(64):
                        written += file.write(bytes(1 << 20))
            except OSError:
                pass
    return 4 if written > 64 << 20 else 0
""",
    "starts two hundred threads": """
import threading, time
def square(x):
    for number in range(200):
        try:
            threading.Thread(target=time.sleep, args=(30,), daemon=True).start()
        except RuntimeError:
            return 0
    return 4
""",
    "starts forty children": """
import os, time
def square(x):
    for number in range(40):
        try:
            child = os.fork()
        except OSError:
            return 0
        if child == 0:
            time.sleep(30)
            os._exit(0)
    return 4
""",
    "leaves a child behind": f"""
import os
def square(x):
    if os.fork() == 0:
        os.setsid()
        os.execv("/usr/bin/sleep", ["sleep", "{LEFT_BEHIND}"])
    os._exit(0)
""",
    "traces other processes": _LIBC
    + """
import os
def square(x):
    for number in (1, os.getppid()):
        if libc.ptrace(16, number, 0, 0) == 0:
            return 4
    return 0
""",
    "makes namespaces": _LIBC
    + """
def square(x):
    for flag in (0x10000000, 0x00020000, 0x40000000, 0x20000000):
        if libc.unshare(flag) == 0:
            return 4
    return 0
""",
    "becomes root": """
import os
def square(x):
    for become in (os.setuid, os.setgid):
        try:
            become(0)
            return 4
        except OSError:
            pass
    return 0
""",
    "raises its limits": """
import resource
def square(x):
    for name in (resource.RLIMIT_AS, resource.RLIMIT_NPROC, resource.RLIMIT_FSIZE):
        try:
            resource.setrlimit(name, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            return 4
        except (OSError, ValueError):
            pass
    return 0
""",
    "kills everything that it can": """
import os
def square(x):
    for number in (1, os.getppid(), -1):
        try:
            os.kill(number, 9)
        except OSError:
            pass
    return 0
""",
    "kills itself": "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
    "crashes the interpreter": "import ctypes\nctypes.string_at(0)",
    "nests without end": """
def square(x):
    nested = []
    for _ in range(100000):
        nested = [nested]
    return nested
""",
}

# These end by the clock on the wall.
ENDLESS = {
    "loops without end": "while True:\n    pass",
    "sleeps when it is called": "import time\ndef square(x):\n    time.sleep(600)",
    "is deaf to signals": """
import signal
for number in range(1, 65):
    try:
        signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError):
        pass
while True:
    pass
""",
}
