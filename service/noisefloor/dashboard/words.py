"""Values of the contract as a reader says them."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from noisefloor.contract.figure import Figure
from noisefloor.contract.gate import JobPolicy
from noisefloor.contract.measurement import METRICS, SQNR, amount, unit
from noisefloor.contract.policy import On, Rules
from noisefloor.contract.subject import Inputs, Seeds, Subject, TensorSpec, Weights
from noisefloor.contract.verdict import Baseline
from noisefloor.gate.baseline import back

SHORT_SHA = 9
SHORT_KEY = 8


def subject_words(subject: Subject) -> str:
    """What tells a subject from another one of the same name: arguments, weights, seeds, inputs.

    >>> inputs = {"shape": [10]}
    >>> subject_words(Subject(zoo="multiple-ops", data={"calibration": inputs, "evaluation": inputs}))
    'seeds 1, 2, 3 · calibration 10 · evaluation 10'
    """
    if subject.data is None:
        return f"seed {subject.seeds.evaluation}" if subject.operator is not None else ""
    arguments = ", ".join(f"{name}={value}" for name, value in subject.args.items())
    parts = [
        arguments,
        f"weights {_file_words(subject.weights)}" if subject.weights else "",
        _seed_words(subject.seeds),
        f"calibration {_input_words(subject.data.calibration)}",
        f"evaluation {_input_words(subject.data.evaluation)}",
    ]
    return " · ".join(part for part in parts if part)


def environment_words(document: Mapping[str, Any]) -> str:
    """The fields of an environment that figures depend on most."""
    threads, cap = document.get("threads"), document.get("isa_cap", "native")
    parts = [
        f"torch {document.get('torch', 'unknown')}",
        document.get("isa"),
        f"cap {cap}" if cap != "native" else None,
        f"{threads} thread{'' if threads == 1 else 's'}" if threads is not None else None,
        document.get("cpu"),
        document.get("gpu"),
    ]
    return " · ".join(str(part) for part in parts if part)


def policy_words(judged_by: JobPolicy) -> str:
    """The rules that hold for the whole job, what differs from the defaults, and the stored policy's name.

    >>> of = {"rules": {"max_drop_db": 0.5}, "on": {"unsupported": "fail"}}
    >>> policy_words(JobPolicy(name="int8", version=3, policy=of))
    'int8, version 3: a drop of 0.5 dB is allowed; unsupported: fail'
    """
    policy = judged_by.policy
    stored = f"{judged_by.name}, version {judged_by.version}: " if judged_by.name is not None else ""
    informational = "informational; " if policy.mode == "informational" else ""
    default = dict(On())
    other = [f"{spaced(name)}: {leads_to}" for name, leads_to in policy.on if leads_to != default[name]]
    more = [
        f"{len(several)} {noun}{'' if len(several) == 1 else 's'}"
        for noun, several in (("override", policy.overrides), ("waiver", policy.waivers))
        if several
    ]
    return stored + informational + "; ".join([_rule_words(policy.rules), *other, *more])


def baseline_words(baseline: Baseline) -> str:
    """How a baseline was chosen, and how far it is.

    >>> exact = {"kind": "exact"}
    >>> baseline_words(Baseline(measurement_id="m", job_id="j", figure=exact, source="pinned", distance=3))
    'pinned, 3 commits back'
    """
    parts = [spaced(baseline.source)]
    if baseline.distance is not None:
        parts.append(back(baseline.distance))
    if baseline.fell_back is not None:
        parts.append(f"because: {baseline.fell_back}")
    return ", ".join(parts)


def edge_words(edge: str) -> str:
    """The pair of variants, with an arrow."""
    return edge.replace("->", "\N{NARROW NO-BREAK SPACE}→\N{NARROW NO-BREAK SPACE}")


def metric_words(metric: str) -> str:
    """A metric with its unit; a plugin's is called by its name."""
    return METRICS.get(metric, metric)


def amount_words(figure: Figure, metric: str) -> str:
    """A figure of a metric without its unit, or why there is none."""
    return amount(figure, metric) if figure.value is not None else spaced(figure.kind.value)


def spaced(word: str) -> str:
    """A stable word of the contract with spaces: `no_baseline` is `no baseline`."""
    return word.replace("_", " ")


def kernel_words(verdict: str) -> str:
    """What was found of a kernel."""
    return spaced(verdict).replace("lsb", "LSB")


def decibels(figure: Figure) -> str:
    """A figure in dB with three decimals, or why there is none."""
    return f"{figure.value:.3f}" if figure.value is not None else spaced(figure.kind.value)


def signed(value: float, metric: str = SQNR) -> str:
    r"""A change with its sign; a true minus is as wide as a plus.

    >>> signed(0.5), signed(0.0), signed(-3.2139) == "\N{MINUS SIGN}3.214"
    ('+0.500', '0.000', True)
    """
    text = f"{value:+.3f}" if unit(metric) == " dB" else f"{value:+.4g}"
    return text[1:] if not float(text) else text.replace("-", "\N{MINUS SIGN}")


def scientific(figure: Figure) -> str:
    """A figure of any size with four digits, or why there is none."""
    return f"{figure.value:.3e}" if figure.value is not None else spaced(figure.kind.value)


def moment(at: datetime) -> str:
    """To the minute; pages say once that times are UTC."""
    return at.strftime("%Y-%m-%d %H:%M")


def short_sha(sha: str) -> str:
    """As much of a commit's name as people read."""
    return sha[:SHORT_SHA]


def short_key(key: str) -> str:
    """As much of a key as people read."""
    return key[:SHORT_KEY]


def _rule_words(rules: Rules) -> str:
    said = []
    if rules.max_drop_db is not None:
        said.append(f"a drop of {rules.max_drop_db:g} dB is allowed")
    if rules.floor_db is not None:
        said.append(f"floor {rules.floor_db:g} dB")
    if rules.creep_db is not None:
        said.append(f"{rules.creep_db.max:g} dB of creep since {spaced(rules.creep_db.since)}")
    if rules.agree_within_db is not None:
        across = " and ".join(rules.agree_within_db.across)
        said.append(f"agreement within {rules.agree_within_db.max:g} dB across {across}")
    if rules.coverage_min is not None:
        said.append(f"coverage of {rules.coverage_min:g} or more")
    return ", ".join(said) or "floors only, no limit on a drop"


def _seed_words(seeds: Seeds) -> str:
    if seeds.stream is None:
        return f"seeds {seeds.model}, {seeds.calibration}, {seeds.evaluation}"
    default = Seeds.model_fields["order"].default
    order = f" ({', '.join(seeds.order)})" if seeds.order != default else ""
    return f"one stream of seed {seeds.stream}{order}"


def _input_words(inputs: Inputs) -> str:
    if inputs.safetensors is not None:
        return f"{_file_words(inputs)} ({inputs.batch} samples)"
    if inputs.shape is not None:
        return _tensor_words(inputs.tensors[0])
    named = [_tensor_words(spec) for spec in inputs.args]
    named += [f"{name} {_tensor_words(spec)}" for name, spec in inputs.kwargs.items()]
    return ", ".join(named)


def _file_words(source: Inputs | Weights) -> str:
    name = source.safetensors or ""
    return f"{name} sha256 {short_sha(source.sha256)}" if source.sha256 else name


def _tensor_words(spec: TensorSpec) -> str:
    shape = "\N{MULTIPLICATION SIGN}".join(str(size) for size in spec.shape)
    if spec.distribution == "normal":
        return f"{shape} normal({spec.low:g}, {spec.high - spec.low:g})"
    if spec.distribution == "uniform" and (spec.low, spec.high) == (0, 1):
        return shape
    return f"{shape} {spec.distribution}({spec.low:g}, {spec.high:g})"
