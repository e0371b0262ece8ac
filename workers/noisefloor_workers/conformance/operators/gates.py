"""What recurrent layers compute: linear parts in exact integers, gates in float64.

What a layer says is quantized again before it is multiplied. Where that lies near a tie there is no case, as
float32 may take it either way.
"""

from typing import Literal

import torch
from torch import Tensor

from noisefloor_workers.conformance import oracle
from noisefloor_workers.conformance.given import Quantized
from noisefloor_workers.conformance.operators.linear import tanh
from noisefloor_workers.conformance.operators.operator import InvalidCase

Kind = Literal["lstm", "gru", "rnn_relu", "rnn_tanh"]
GATES: dict[Kind, int] = {"lstm": 4, "gru": 3, "rnn_relu": 1, "rnn_tanh": 1}
# how near to a tie, in codes, float32 may take a hidden state either way
NEAR_A_TIE = 1e-3
# a weight [rows, width] and its bias [rows]
Part = tuple[Quantized, Tensor]


def recurrent(
    kind: Kind, high: int | None, x: Tensor, h: Tensor, c: Tensor, *, cells: list[tuple[Part, ...]], ways: int
) -> Tensor:
    """Every output, then the last hidden states, then the last cell states, in one row; float64.

    X [time, batch, inputs]; h and c [layers · ways, batch, hidden]; `cells` as h, each with the weights of
    input and hidden state; `high` is the highest code, None where nothing is quantized.
    """
    last: list[Tensor] = []
    states: list[Tensor] = []
    for layer in range(0, len(cells), ways):
        outputs = []
        for way in range(ways):
            first, second = cells[layer + way]
            gates = _linear(x, first, high)
            hidden, state = h[layer + way], c[layer + way]
            said = [hidden] * len(gates)
            for at in reversed(range(len(gates))) if way else range(len(gates)):
                hidden, state = _step(kind, gates[at], _linear(hidden, second, high), hidden, state)
                said[at] = hidden
            outputs.append(torch.stack(said))
            last.append(hidden)
            states.append(state)
        x = torch.cat(outputs, 2)
    return torch.cat([one.flatten() for one in (x, *last, *(states if kind == "lstm" else ()))])


def _linear(x: Tensor, part: Part, high: int | None) -> Tensor:
    """The product in integers of what is quantized here, in real values."""
    w, b = part
    if high is None:
        return x @ (w.centred * w.scales).T + b.double()
    codes, scale = dynamic(x, high)
    return oracle.linear(codes, w.centred) * (scale * w.scales.flatten()) + b.double()


def dynamic(x: Tensor, high: int) -> tuple[Tensor, float]:
    """Codes less their zero point, int64, and the scale; InvalidCase where a code might be another."""
    low, top = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    if low == top:
        raise InvalidCase("zeros span no range")
    scale = (top - low) / high
    zero, steps = -low / scale, x / scale
    if min(float((part % 1 - 0.5).abs().min()) for part in (steps, torch.tensor(zero))) < NEAR_A_TIE:
        raise InvalidCase("a code lies near a tie")
    return ((steps.round() + round(zero)).clamp(0, high) - round(zero)).long(), scale


def _step(kind: Kind, x: Tensor, h: Tensor, hidden: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """The next hidden and cell states, from the gates of the input and of the hidden state."""
    if kind == "lstm":
        i, f, g, o = (x + h).chunk(4, 1)
        state = _sigmoid(f) * state + _sigmoid(i) * tanh(g)
        return _sigmoid(o) * tanh(state), state
    if kind == "gru":
        (xr, xz, xn), (hr, hz, hn) = x.chunk(3, 1), h.chunk(3, 1)
        new = tanh(xn + _sigmoid(xr + hr) * hn)
        return new + _sigmoid(xz + hz) * (hidden - new), state
    return (tanh(x + h) if kind == "rnn_tanh" else (x + h).clamp(min=0)), state


def _sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + (-x).exp())
