"""The other side of `_sandbox`: limits itself, then runs the program on its standard input. Imports nothing of ours.

The seccomp filter is classic BPF (linux/filter.h, linux/seccomp.h): load the number of the system call, compare, refuse
with EPERM. Refused are sockets, new processes (threads are allowed), other processes' memory and signals, every change
to a file system, and io_uring, which could do all of it in another way.
"""

import ctypes
import os
import platform
import resource
import struct
import sys

UNUSABLE = 97
NO_NEW_PRIVS, SET_SECCOMP, FILTER = 38, 22, 2  # prctl
LOAD, EQUAL, ANY_BIT, RETURN = 0x20, 0x15, 0x45, 0x06
ALLOW, REFUSE, NO_CALL, KILL = 0x7FFF0000, 0x00050001, 0x00050026, 0x80000000  # with EPERM, with ENOSYS
CLONE_THREAD = 0x00010000
WRITES = 0o1 | 0o2 | 0o100 | 0o1000  # O_WRONLY, O_RDWR, O_CREAT, O_TRUNC
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# name -> (x86-64, arm64); None where an architecture has no such call
REFUSED = {
    "socket": (41, 198),
    "connect": (42, 203),
    "accept": (43, 202),
    "sendto": (44, 206),
    "bind": (49, 200),
    "listen": (50, 201),
    "socketpair": (53, 199),
    "accept4": (288, 242),
    "fork": (57, None),
    "vfork": (58, None),
    "execve": (59, 221),
    "execveat": (322, 281),
    "kill": (62, 129),
    "tkill": (200, 130),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "bpf": (321, 280),
    "keyctl": (250, 219),
    "perf_event_open": (298, 241),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "openat2": (437, 437),
    "open_by_handle_at": (304, 265),
    "creat": (85, None),
    "truncate": (76, 45),
    "rename": (82, None),
    "renameat": (264, 38),
    "renameat2": (316, 276),
    "mkdir": (83, None),
    "mkdirat": (258, 34),
    "rmdir": (84, None),
    "link": (86, None),
    "linkat": (265, 37),
    "unlink": (87, None),
    "unlinkat": (263, 35),
    "symlink": (88, None),
    "symlinkat": (266, 36),
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, None),
    "fchown": (93, 55),
    "lchown": (94, None),
    "fchownat": (260, 54),
    "mknod": (133, None),
    "mknodat": (259, 33),
    "utimensat": (280, 88),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "memfd_create": (319, 279),
    "reboot": (169, 142),
}
OPEN, OPENAT, CLONE, CLONE3 = (2, None), (257, 56), (56, 220), (435, 435)


def instruction(code: int, true: int, false: int, value: int) -> bytes:
    """One `struct sock_filter`."""
    return struct.pack("<HBBI", code, true, false, value)


def program(machine: str) -> "list[bytes]":
    """The filter for one architecture."""
    column = tuple(ARCHITECTURES).index(machine)
    lines = [
        instruction(LOAD, 0, 0, 4),  # seccomp_data.arch
        instruction(EQUAL, 1, 0, ARCHITECTURES[machine]),
        instruction(RETURN, 0, 0, KILL),
        instruction(LOAD, 0, 0, 0),  # seccomp_data.nr
    ]
    if machine == "x86_64":  # x32 calls have numbers of their own
        lines += [instruction(ANY_BIT, 0, 1, 0x40000000), instruction(RETURN, 0, 0, KILL)]
    for numbers in REFUSED.values():
        number = numbers[column]
        if number is not None:
            lines += [instruction(EQUAL, 0, 1, number), instruction(RETURN, 0, 0, REFUSE)]
    # The C library falls back to clone, whose flags can be read.
    lines += [instruction(EQUAL, 0, 1, CLONE3[column]), instruction(RETURN, 0, 0, NO_CALL)]
    checked: tuple[tuple[tuple[int | None, ...], int, int, bool], ...] = (
        (CLONE, 0, CLONE_THREAD, True),
        (OPENAT, 2, WRITES, False),
        (OPEN, 1, WRITES, False),
    )
    for calls, argument, bits, allowed in checked:
        call = calls[column]
        if call is not None:
            lines += [
                instruction(EQUAL, 0, 4, call),
                instruction(LOAD, 0, 0, 16 + 8 * argument),
                instruction(ANY_BIT, int(not allowed), int(allowed), bits),
                instruction(RETURN, 0, 0, ALLOW),
                instruction(RETURN, 0, 0, REFUSE),
            ]
    return [*lines, instruction(RETURN, 0, 0, ALLOW)]


def enclose() -> None:
    """Install the filter for this process; there is no way back."""
    machine = platform.machine()
    if sys.platform != "linux" or machine not in ARCHITECTURES:
        raise OSError(f"it needs Linux on {' or '.join(ARCHITECTURES)}, this is {sys.platform} on {machine}")
    lines = program(machine)
    code = ctypes.create_string_buffer(b"".join(lines))
    header = ctypes.create_string_buffer(struct.pack("@HP", len(lines), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    for step in ((NO_NEW_PRIVS, 1, 0, 0, 0), (SET_SECCOMP, FILTER, ctypes.addressof(header), 0, 0)):
        if libc.prctl(*(ctypes.c_ulong(value) for value in step)):
            raise OSError(f"prctl {step[0]} is refused: {os.strerror(ctypes.get_errno())}")


def main() -> None:
    """Read `token seconds memory` and the program, limit, run, answer with the token."""
    header, _, source = sys.stdin.buffer.read().partition(b"\n")
    token, seconds, memory = header.split()
    answer = os.dup(1)
    quiet = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(quiet, stream)
    try:
        for what, limit in (
            (resource.RLIMIT_CPU, int(seconds)),
            (resource.RLIMIT_AS, int(memory)),
            (resource.RLIMIT_FSIZE, 0),
            (resource.RLIMIT_CORE, 0),
            (resource.RLIMIT_NOFILE, 64),
        ):
            resource.setrlimit(what, (limit, limit))
        enclose()
    except (OSError, ValueError) as error:
        os.write(answer, str(error).encode())
        os._exit(UNUSABLE)
    text = source.decode("utf-8", "surrogatepass")
    exec(compile(text, "<program>", "exec"), {"__name__": "__main__", "__builtins__": __builtins__})  # that is the job
    # A pipe is no file: the limit of file sizes does not hold for it.
    os.write(answer, token)
    os._exit(0)


main()
