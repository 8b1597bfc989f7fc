"""Confining a process for good: from then on it computes, reads and writes what is open, no more.

For a program that decodes what strangers sent. Two layers of the kernel forbid the rest, each by
itself: Landlock (landlock(7)) every file, address and signal outside, and seccomp (seccomp(2))
every system call that computing does not need. ``python -I confinement.py`` says why that cannot
be done here; it knows nothing of the spool.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import struct
import subprocess
import sys

UNCONFINED = 4
"""The exit code of a program that could not be confined, and so did nothing."""
CPU_SECONDS = 5
MEMORY_BYTES = 1 << 30
_LOOK_SECONDS = 20

_NO_NEW_PRIVILEGES, _SET_SECCOMP, _SET_DUMPABLE = 38, 22, 4  # of prctl(2)
_FILTER = 2
_CREATE_RULESET, _RESTRICT_SELF = 444, 446  # of landlock(7): the same on every architecture
_VERSION = 1
_FILES = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
"""What Landlock can forbid of files, from which version of its interface on."""
_NETWORK, _SCOPES = 0b11, 0b11  # bind and connect (4); abstract sockets and signals (6)

_LOAD_NUMBER, _LOAD_ARCHITECTURE = (0x20, 0, 0, 0), (0x20, 0, 0, 4)  # fields of seccomp_data
_EQUAL, _AT_LEAST, _RETURN = 0x15, 0x35, 0x06
_ALLOW, _KILL, _REFUSE = 0x7FFF0000, 0x80000000, 0x00050000 | 1  # with EPERM
_X32 = 0x40000000

# read, write, close, fstat, lseek, mmap, mprotect, munmap, brk, rt_sigaction, rt_sigprocmask,
# rt_sigreturn, pread64, readv, writev, sched_yield, mremap, madvise, getpid, exit, gettimeofday,
# sigaltstack, gettid, futex, sched_getaffinity, restart_syscall, clock_gettime, exit_group,
# getrandom
_CALLS = {
    "x86_64": (0xC000003E, (0, 1, 3, 5, 8, 9, 10, 11, 12, 13, 14, 15, 17, 19, 20, 24, 25, 28, 39,
                            60, 96, 131, 186, 202, 204, 219, 228, 231, 318)),
    "aarch64": (0xC00000B7, (63, 64, 57, 80, 62, 222, 226, 215, 214, 134, 135, 139, 67, 65, 66,
                             124, 216, 233, 172, 93, 169, 132, 178, 98, 123, 128, 113, 94, 278)),
}  # fmt: skip
"""By machine: how the kernel calls the architecture, and the numbers of what may be called."""


class Unconfined(Exception):
    """The kernel does not confine it; the sentence says what is missing."""


def confine() -> None:
    """Give up everything but computing and what is open; Unconfined where that cannot be done.

    Modules have to be there already: no file can be opened afterwards, nor a program started.
    """
    for what, most in (
        (resource.RLIMIT_CPU, CPU_SECONDS),
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
    ):
        resource.setrlimit(what, (most, most))
    with contextlib.suppress(OSError):
        os.nice(10)
    libc = ctypes.CDLL(None, use_errno=True)
    _prctl(libc, _SET_DUMPABLE, 0)
    _prctl(libc, _NO_NEW_PRIVILEGES, 1)
    _forbid_files(libc)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))  # after Landlock's own descriptor
    _forbid_calls(libc)


def _prctl(libc: ctypes.CDLL, option: int, value: int, address: int = 0) -> None:
    zero = ctypes.c_ulong(0)
    if libc.prctl(option, ctypes.c_ulong(value), ctypes.c_void_p(address), zero, zero):
        raise Unconfined(f"prctl({option}) fails here: {os.strerror(ctypes.get_errno())}")


def _forbid_files(libc: ctypes.CDLL) -> None:
    version = libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION)
    if version < 1:
        why = os.strerror(ctypes.get_errno())
        raise Unconfined(f"this kernel has no Landlock, or does not let it be used ({why})")
    files = _FILES[max(known for known in _FILES if known <= version)]
    wanted = [files] + [_NETWORK] * (version >= 4) + [_SCOPES] * (version >= 6)
    attributes = struct.pack(f"={len(wanted)}Q", *wanted)
    rules = libc.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    if rules < 0:
        raise Unconfined(f"Landlock refuses its rules: {os.strerror(ctypes.get_errno())}")
    refused = libc.syscall(_RESTRICT_SELF, rules, 0)
    os.close(rules)
    if refused:
        raise Unconfined(f"Landlock cannot be used: {os.strerror(ctypes.get_errno())}")


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def _forbid_calls(libc: ctypes.CDLL) -> None:
    machine = os.uname().machine
    if machine not in _CALLS or ctypes.sizeof(ctypes.c_void_p) != 8:
        raise Unconfined(f"it is not known which system calls {machine} needs (64 bits)")
    architecture, calls = _CALLS[machine]
    steps = [
        _LOAD_ARCHITECTURE,
        (_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL),
        _LOAD_NUMBER,
        (_AT_LEAST, 0, 1, _X32),
        (_RETURN, 0, 0, _KILL),
        *((_EQUAL, len(calls) - at, 0, number) for at, number in enumerate(calls)),
        (_RETURN, 0, 0, _REFUSE),
        (_RETURN, 0, 0, _ALLOW),
    ]
    packed = b"".join(struct.pack("=HBBI", *step) for step in steps)
    program = _Program(len(steps), packed)
    _prctl(libc, _SET_SECCOMP, _FILTER, ctypes.addressof(program))


def why_not() -> str:
    """Why a process cannot be confined on this machine; empty if it can. Tries one."""
    try:
        ran = subprocess.run(
            [sys.executable, "-I", __file__], stdin=subprocess.DEVNULL, capture_output=True,
            text=True, env={}, timeout=_LOOK_SECONDS, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"it cannot be tried: {error}"
    if ran.returncode == 0:
        return ""
    return ran.stdout.strip() or f"the trial ended with exit code {ran.returncode}"


if __name__ == "__main__":
    try:
        confine()
    except Unconfined as error:
        print(error, flush=True)
        os._exit(UNCONFINED)
    os._exit(0)
