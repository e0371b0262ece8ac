"""How much memory a process holds that is its own."""

from pathlib import Path

# Pages of files are left out: the kernel takes them back when it needs them.
OWN_MEMORY = ("RssAnon:", "RssShmem:")


def own_bytes(pid: int) -> int:
    """Resident anonymous and shared memory; 0 where the process is gone or the system does not tell."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(OWN_MEMORY))
