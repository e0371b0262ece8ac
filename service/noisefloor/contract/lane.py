"""The lane: where a cell runs."""

from itertools import product
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from noisefloor.contract.base import Value, refuse_repeats

Engine = Literal["qnnpack", "onednn", "x86", "fbgemm", "inductor", "xnnpack", "aten"]
QUANTIZED_ENGINES: tuple[Engine, ...] = ("qnnpack", "onednn", "x86", "fbgemm")
Device = Literal["cpu", "cuda"]
Isa = Literal["native", "avx512_core", "avx2", "sse41"]
Threads = Annotated[int, Field(ge=1, le=1024)]


class Lane(Value):
    """One engine on one device, under a cap on its instructions, with a thread count.

    `aten` is torch's own kernels, where a flow needs no quantized engine; it is the one engine on `cuda`.
    """

    engine: Engine
    device: Device = "cpu"
    isa: Isa = "native"
    threads: Threads = 1

    @property
    def label(self) -> str:
        """The engine, and whatever differs from a plain run on it."""
        extras: list[str] = [self.device] if self.device != "cpu" else []
        extras += [self.isa] if self.isa != "native" else []
        extras += [f"{self.threads} threads"] if self.threads != 1 else []
        return " ".join([self.engine, *extras])


class Lanes(Value):
    """The product of its axes."""

    engine: Annotated[tuple[Engine, ...], Field(min_length=1, max_length=16)]
    device: Annotated[tuple[Device, ...], Field(min_length=1, max_length=4)] = ("cpu",)
    isa: Annotated[tuple[Isa, ...], Field(min_length=1, max_length=16)] = ("native",)
    threads: Annotated[tuple[Threads, ...], Field(min_length=1, max_length=1024)] = (1,)

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        for axis in type(self).model_fields:
            refuse_repeats(axis, getattr(self, axis))
        return self

    @property
    def count(self) -> int:
        return len(self.engine) * len(self.device) * len(self.isa) * len(self.threads)

    def each(self) -> list[Lane]:
        """Every lane; engines vary fastest, so that neighbours share a process and a calibration."""
        return [
            Lane(engine=engine, device=device, isa=isa, threads=threads)
            for isa, threads, device, engine in product(self.isa, self.threads, self.device, self.engine)
        ]
