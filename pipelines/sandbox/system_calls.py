"""A filter of system calls for boxes, as the kernel reads it (classic BPF).

A deny list: every call that takes memory which no limit counts, reaches beyond the box, or opens
a part of the kernel that an answer has no use for. They fail with EPERM; a call by another
architecture's table ends the process.
"""

import errno
import platform
import struct

from core.errors import SandboxUnavailable

_AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32_BIT = 0x40000000
# By architecture, from the kernel's own tables.
_DENIED = {
    # Shared memory, queues and anonymous files: counted by no limit of a process.
    "shmget": (29, 194),
    "shmat": (30, 196),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    # Sockets: some families know no namespaces, as those to the machine below this one.
    "socket": (41, 198),
    "socketpair": (53, 199),
    # Other processes, also in the box.
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    # Namespaces and mounts.
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "mount_setattr": (442, 442),
    # Wide parts of the kernel.
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "personality": (135, 92),
    "quotactl": (179, 60),
    "syslog": (103, 116),
    "acct": (163, 89),
    "swapon": (167, 224),
    "reboot": (169, 142),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "open_by_handle_at": (304, 265),
    "name_to_handle_at": (303, 264),
    "lookup_dcookie": (212, 18),
    "vmsplice": (278, 75),
}
_LOAD = 0x20
_JUMP_EQUAL = 0x15
_JUMP_AT_LEAST = 0x35
_RETURN = 0x06
_ALLOW = 0x7FFF0000
_KILL = 0x80000000
_REFUSE = 0x00050000 | errno.EPERM
_NUMBER_AT = 0
_ARCHITECTURE_AT = 4


def filter_program(machine: str | None = None) -> bytes:
    """The filter for this processor; `SandboxUnavailable` for one whose table is not here."""
    name = machine or platform.machine()
    if name not in _AUDIT:
        raise SandboxUnavailable(
            f"There is no filter of system calls for {name} processors. "
            "Run on x86_64 or aarch64."
        )
    column = list(_AUDIT).index(name)
    denied = sorted({numbers[column] for numbers in _DENIED.values()})
    steps = [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_JUMP_EQUAL, 1, 0, _AUDIT[name]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER_AT),
        # A second table of the same processor, where each call has another number.
        (_JUMP_AT_LEAST, 0, 1, _X32_BIT),
        (_RETURN, 0, 0, _KILL),
    ]
    for number in denied:
        steps.append((_JUMP_EQUAL, 0, 1, number))
        steps.append((_RETURN, 0, 0, _REFUSE))
    steps.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("HBBI", *step) for step in steps)
