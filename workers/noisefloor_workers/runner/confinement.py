"""What a child puts on itself before it touches a model: its own session, its limits, its own output."""

import ctypes
import faulthandler
import os
import re
import resource
import signal
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
FILE_BYTES = 256 * 2**20


def die_with_parent(parent_pid: int) -> None:
    """Have the kernel kill this process when its parent goes; Linux only.

    The parent may have gone before the call, which the kernel does not tell: hence the look at its id.
    """
    if sys.platform == "linux":
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os._exit(1)


def adopt_orphans() -> None:
    """Become the parent of whatever a child leaves behind, so that it can be ended too; Linux only."""
    if sys.platform == "linux":
        _prctl(PR_SET_CHILD_SUBREAPER, 1)


def limit_memory(memory_bytes: int) -> None:
    """Let allocations fail beyond a limit, counted on top of what the process holds already.

    RLIMIT_DATA counts torch itself, some hundred megabytes, which is not the model's doing.
    """
    limit = memory_bytes + _private_bytes()
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES, FILE_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def redirect(output_fd: int, keep_fd: int) -> None:
    """Read nothing, print into `output_fd`, and hold no descriptor of the server but `keep_fd`."""
    null_fd = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null_fd, 0)
    os.dup2(output_fd, 1)
    os.dup2(output_fd, 2)
    os.closerange(3, keep_fd)
    os.closerange(keep_fd + 1, os.sysconf("SC_OPEN_MAX"))
    # the tail of the output is read after the process was killed: nothing may wait in a buffer
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(write_through=True)  # type: ignore[union-attr]  # the interpreter's own streams
    faulthandler.enable()


def _private_bytes() -> int:
    """The private data of this process as RLIMIT_DATA counts them; 0 where the system does not tell."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    found = re.search(r"^VmData:\s*(\d+) kB", status, re.MULTILINE)
    return int(found.group(1)) * 1024 if found else 0


def _prctl(option: int, argument: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, argument, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
