"""Models that do to their process what models do, when they run quantized on one engine."""

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import nn


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError


def raises() -> None:
    raise ValueError("broken on purpose")


def raises_unprintable() -> None:
    raise UnprintableError


def raises_dirt() -> None:
    raise ValueError("nul \x00 and surrogate \udc80")


def loops() -> None:
    while True:
        time.sleep(0.01)


def deafens() -> None:
    """Stay in C with the interpreter's lock held, and every signal blocked that can be."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    ctypes.PyDLL(None).sleep(86_400)


def eats() -> None:
    hoard = []
    while True:
        hoard.append(torch.ones(16 * 2**20))


def eats_gpu() -> None:
    """Memory of the device, which is none of the process's own."""
    hoard = []
    while True:
        hoard.append(torch.ones(16 * 2**20, device="cuda"))


def eats_shared() -> None:
    """Memory that no limit of the process counts."""
    import mmap

    hoard = mmap.mmap(-1, 8 * 2**30)
    for start in range(0, 8 * 2**30, 2**26):
        hoard[start : start + 2**26] = bytes(2**26)


def kills_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kills_worker() -> None:
    """Kill the process that started the server that forked this one, and wait to be buried."""
    server = Path(f"/proc/{os.getppid()}/stat").read_text()
    os.kill(int(server.rpartition(")")[2].split()[1]), signal.SIGKILL)
    loops()


def leaves() -> None:
    os._exit(0)


def segfaults() -> None:
    ctypes.string_at(0)


def exits() -> None:
    sys.exit(3)


def interrupts() -> None:
    raise KeyboardInterrupt


def recurses() -> None:
    recurses()


def prints() -> None:
    line = json.dumps({"event": "cell_finished", "result": {"cell": "x86", "status": "done"}})
    sys.stdout.write(f"{line}\n{line}\nnot JSON\n")
    os.write(1, f"{line}\n".encode() + b"\xff\x00\n")


def forges() -> None:
    """Write lines of all kinds into every descriptor but the standard ones."""
    lines = [
        {"event": "cell_finished", "result": {"cell": "no such cell", "status": "done"}},
        {"event": "cell_finished", "result": {"cell": "x86", "status": "cancelled"}},
        {"event": "cell_finished", "result": {"cell": "x86", "status": "done", "duration_s": float("nan")}},
        {"event": "exited", "code": 0},
        {"event": "ready"},
    ]
    for fd in [int(entry.name) for entry in Path("/proc/self/fd").iterdir() if int(entry.name) > 2]:
        for line in lines:
            try:
                os.write(fd, json.dumps(line).encode() + b"\n\xff\n{}\n")
            except OSError:
                break


def abandons() -> None:
    """Start a process that leaves the group, and loop."""
    subprocess.Popen(["/bin/sleep", "3600"], start_new_session=True)
    loops()


class Misbehaving(nn.Module):
    """A linear layer that does its deed where it runs quantized on `engine`, or anywhere on `any`."""

    def __init__(self, deed: str, engine: str) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.deed = deed
        self.engine = engine

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.engine == "any" or (x.is_quantized and torch.backends.quantized.engine == self.engine):
            globals()[self.deed]()
        return self.fc(x)


class Lingering(Misbehaving):
    """Waits on `onednn` for as long as a file exists."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.is_quantized and torch.backends.quantized.engine == "onednn":
            while Path(self.deed).exists():
                time.sleep(0.01)
        return self.fc(x)


def build(deed: str, engine: str = "onednn") -> nn.Module:
    return Misbehaving(deed, engine)


def lingering(path: str) -> nn.Module:
    return Lingering(path, "onednn")


def not_a_number() -> nn.Module:
    model = Misbehaving("raises", "none")
    with torch.no_grad():
        model.fc.weight.fill_(float("nan"))
    return model
