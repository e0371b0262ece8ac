"""The job as a user writes it."""

from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from noisefloor.contract.analysis import Analysis
from noisefloor.contract.base import TEXT_CHARS, Moment, Name, Text, Value, refuse_repeats, writable
from noisefloor.contract.lane import Lanes
from noisefloor.contract.operators import operators
from noisefloor.contract.policy import Policy, PolicyOrName
from noisefloor.contract.scheme import Scheme
from noisefloor.contract.subject import Subject

Sha = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{7,64}$")]
SHA_CHARS = 40
GIB = 2**30
MAX_ANCESTORS = 100


def unknown_sha(sha: str) -> str:
    """A sha that no job has; of one cut short, says what is missing: jobs are found by what they name.

    >>> unknown_sha("851382c")
    '851382c: give the whole sha'
    """
    return sha if len(sha) >= SHA_CHARS else f"{sha}: give the whole sha"


def _specifier(version: str) -> str:
    """A PEP 440 specifier; `2.13.*` alone stands for `==2.13.*`."""
    asked = f"=={version}" if version[:1].isdigit() else version
    try:
        return str(SpecifierSet(asked))
    except InvalidSpecifier:
        raise ValueError(
            f"{version!r} is no version: give '2.13.*', or a specifier such as '>=2.12,<2.14'"
        ) from None


VersionSpecifier = Annotated[Text, AfterValidator(_specifier), StringConstraints(max_length=TEXT_CHARS)]

PRIORITIES = {"gate": 75, "nightly": 25, "bisect": 10}
DEFAULT_PRIORITY = 50


def _number(value: Any) -> Any:
    """A priority's number by its word; what is no word is left as it is."""
    if not isinstance(value, str) or value.strip().isdigit():
        return value
    if value not in PRIORITIES:
        raise PydanticCustomError(
            "unknown_name",
            "unknown priority '{name}'",
            {"name": writable(value[:64]), "accepted": [*PRIORITIES, "0 to 100"]},
        )
    return PRIORITIES[value]


# The word stands for its number, and the number is kept: a job means the same with either.
Priority = Annotated[
    int,
    Field(ge=0, le=100),
    BeforeValidator(
        _number,
        json_schema_input_type=Annotated[int, Field(ge=0, le=100)] | Literal["gate", "nightly", "bisect"],
    ),
]


class Limits(Value):
    """What one cell may take before it is ended."""

    cell_timeout_s: Annotated[float, Field(gt=0, le=86_400)] = 120.0
    memory_gib: Annotated[float, Field(ge=0.125, le=4096)] = Field(
        default=4.0, description="of the model, its data and its threads' stacks, on top of torch"
    )

    @property
    def memory_bytes(self) -> int:
        return int(self.memory_gib * GIB)


class Git(Value):
    """The commit that a job measures."""

    repository: Text | None = None
    branch: Text | None = None
    sha: Sha | None = None
    committed_at: Moment | None = None
    ancestors: Annotated[tuple[Sha, ...], Field(max_length=MAX_ANCESTORS)] = Field(
        default=(), description="first parents, newest first, the commit itself left out"
    )
    merge: Sha | None = Field(
        default=None, description="the merge of this commit into its base, where that is what is checked out"
    )
    tag: Text | None = Field(default=None, description="of the release that this commit is")
    dirty: bool = Field(default=False, description="tracked files differed from the commit")


class JobSubject(Subject):
    """A subject of a job, with schemes of its own where the job's do not fit it."""

    schemes: Annotated[tuple[Scheme, ...], Field(min_length=1, max_length=1024)] | None = None

    @model_validator(mode="after")
    def _schemes_once(self) -> Self:
        refuse_repeats("schemes", (scheme.quantization.label for scheme in self.schemes or ()))
        return self

    @property
    def each(self) -> tuple[Subject, ...]:
        """The subject alone; of a glob, each operator that it means."""
        subject = Subject(**{name: getattr(self, name) for name in Subject.model_fields})
        if self.conformance is None:
            return (subject,)
        return tuple(subject.replace(conformance=name) for name in operators(self.conformance))


class JobSpec(Value):
    """Subjects × schemes × lanes, at a commit, under limits and a policy."""

    version: Literal[1]
    project: Name | None = Field(default=None, description="if given, the same as in the address")
    name: Text = ""
    subjects: Annotated[tuple[JobSubject, ...], Field(min_length=1, max_length=1024)]
    schemes: Annotated[tuple[Scheme, ...], Field(max_length=1024)] = ()
    lanes: Lanes
    limits: Limits = Limits()
    analysis: Analysis = Analysis()
    policy: PolicyOrName = Policy()
    git: Git = Git()
    suite: Name | None = Field(
        default=None, description="the suite whose status beside the commit this job decides"
    )
    priority: Priority = Field(
        default=DEFAULT_PRIORITY,
        description="0 to 100, or gate, nightly or bisect; the most urgent goes first",
    )
    torch: VersionSpecifier | None = Field(default=None, description="of the workers that may measure it")

    @model_validator(mode="after")
    def _cells_once(self) -> Self:
        refuse_repeats("schemes", (scheme.quantization.label for scheme in self.schemes))
        subjects = (
            one.model_dump_json(by_alias=True, exclude_defaults=True)
            for subject in self.subjects
            for one in subject.each
        )
        refuse_repeats("subjects", subjects)
        return self


class JobStatus(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"

    @property
    def settled(self) -> bool:
        return self in {JobStatus.DONE, JobStatus.CANCELLED}


class CellStatus(StrEnum):
    """Where a cell stands, or how it ended."""

    QUEUED = "queued"
    DONE = "done"
    UNSUPPORTED = "unsupported"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    OUT_OF_MEMORY = "out_of_memory"
    CRASHED = "crashed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        return self is not CellStatus.QUEUED


RETRIED: frozenset[CellStatus] = frozenset(
    {
        CellStatus.FAILED,
        CellStatus.TIMED_OUT,
        CellStatus.OUT_OF_MEMORY,
        CellStatus.CRASHED,
        CellStatus.CANCELLED,
    }
)
