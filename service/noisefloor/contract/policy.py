"""The policy: rules in absolute decibels, what they are held against, and what irregular outcomes lead to."""

from datetime import date
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    StringConstraints,
    TypeAdapter,
    model_validator,
)
from pydantic_core import CoreSchema, core_schema

from noisefloor.contract.base import Name, Text, Value, contradiction, refuse_repeats
from noisefloor.contract.match import Match, OneOrMany, Where
from noisefloor.contract.scheme import Decibels

Consequence = Literal["warn", "fail", "error"]
EnvironmentConsequence = Literal["attribute", "warn", "fail", "error"]
Source = Literal["merge_base", "nearest_ancestor", "previous", "pinned", "accepted"]
Allowance = Annotated[float, Field(ge=0, le=1000)]
Axis = Literal["engine", "isa"]
Reason = Annotated[str, StringConstraints(min_length=1, max_length=2000, pattern=r"^[^\x00]*\S[^\x00]*$")]

FIXED: frozenset[Source] = frozenset({"pinned", "accepted"})
LAST_RELEASE, PINNED = "last_release", "pinned"


class BaselineRule(Value):
    """Where the result comes from that each series is held against: by default the previous on the branch."""

    source: Source = "previous"
    branch: Text | None = Field(
        default=None, description="merged into (merge_base), or measured on (previous; its own by default)"
    )
    max_age_commits: Annotated[int, Field(ge=1, le=100)] | None = Field(
        default=None, description="largest distance to the baseline; clients send 100 ancestors"
    )
    fallback: Source | None = None

    @model_validator(mode="after")
    def _sources_fit(self) -> Self:
        sources = {self.source, self.fallback}
        if self.fallback == self.source:
            raise contradiction(
                "fallback",
                f"it is {self.source}, the source itself: nothing more is found",
                self.fallback,
            )
        if (self.source, self.fallback) == ("nearest_ancestor", "merge_base"):
            raise contradiction(
                "fallback", "a merge base is an ancestor: it would find nothing more", self.fallback
            )
        if "merge_base" in sources and self.branch is None:
            raise contradiction("branch", "merge_base needs one: the branch that is merged into", None)
        if self.branch is not None and not sources & {"merge_base", "previous"}:
            raise contradiction(
                "branch", f"it belongs to merge_base and previous; the source is {self.source}", self.branch
            )
        if self.max_age_commits is not None and sources <= FIXED | {None}:
            raise contradiction(
                "max_age_commits", f"a baseline that is {self.source} has no age", self.max_age_commits
            )
        return self


class Creep(Value):
    """The largest loss in all since a release, however small its steps."""

    max: Allowance
    since: Text = Field(
        default=LAST_RELEASE,
        description="last_release (the latest earlier commit with a git.tag), pinned, or a tag's name",
    )


class Agreement(Value):
    """The largest distance in dB below the best lane among those that differ in these axes alone."""

    across: Annotated[tuple[Axis, ...], Field(min_length=1, max_length=2), OneOrMany()]
    max: Allowance

    @model_validator(mode="after")
    def _axes_once(self) -> Self:
        refuse_repeats("across", self.across)
        return self


class Rules(Value):
    """Limits in dB, and one on what is quantized at all. Floors may also stand beside each scheme."""

    max_drop_db: Allowance | None = Field(default=None, description="largest loss against the baseline")
    floor_db: Decibels | None = Field(
        default=None, description="under every whole output; a scheme's own floor holds as well"
    )
    creep_db: Creep | None = None
    agree_within_db: Agreement | None = None
    coverage_min: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None, description="least share of what could be quantized in a graph that is"
    )

    def over(self, other: "Rules") -> "Rules":
        """These rules where they are given, and the other's where not."""
        given = {name: rule for name, rule in self if rule is not None}
        return other.model_copy(update=given) if given else other


class On(Value):
    """What an irregular outcome leads to. None of them can be set to pass."""

    nonfinite: Consequence = "fail"
    no_baseline: Consequence = "fail"
    missing_series: Consequence = "fail"
    unsupported: Consequence = "warn"
    worker_error: Consequence = "error"
    conformance: Consequence = "fail"
    environment_changed: EnvironmentConsequence = "attribute"
    unknown_files: Consequence = "warn"


class Override(Value):
    """Other limits for some of the measurements. Where several match, a later one has the last word."""

    match: Match
    rules: Rules

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.match.empty:
            raise contradiction("match", "it names nothing: rules for all stand in the policy itself", {})
        if self.rules == Rules():
            raise contradiction("rules", "it changes nothing: give at least one rule", {})
        return self


class Waiver(Value):
    """Regressions that are known and let through, for a reason, until a day."""

    match: Match
    until: date = Field(description="the last day on which it counts, in UTC")
    reason: Reason
    by: Text | None = None

    @model_validator(mode="after")
    def _names_something(self) -> Self:
        if self.match.empty:
            raise contradiction("match", "it names nothing: to waive everything is mode: informational", {})
        return self


class Policy(Value):
    """A gate's rules."""

    version: Literal[1] = 1
    name: Name | None = Field(default=None, description="of a stored policy: the same as in the address")
    match: Match = Match()
    mode: Literal["blocking", "informational"] = "blocking"
    baseline: BaselineRule = BaselineRule()
    rules: Rules = Rules()
    on: On = On()
    on_improvement: Literal["allow", "require_rebaseline"] = "allow"
    overrides: Annotated[tuple[Override, ...], Field(max_length=256)] = ()
    waivers: Annotated[tuple[Waiver, ...], Field(max_length=256)] = ()

    @model_validator(mode="after")
    def _rules_fit(self) -> Self:
        for field, rules in self._each_rules():
            agreement = rules.agree_within_db
            for axis in agreement.across if agreement is not None else ():
                pinned = getattr(self.match, axis)
                if pinned is not None and len(set(pinned)) == 1:
                    raise contradiction(
                        f"{field}.agree_within_db",
                        f"nothing can agree across {axis}: match leaves only {pinned[0]}",
                        list(agreement.across) if agreement is not None else None,
                    )
        if self.on_improvement == "require_rebaseline" and not self._limits_drops:
            raise contradiction(
                "on_improvement",
                "require_rebaseline needs rules.max_drop_db: what is further above the baseline is one",
                self.on_improvement,
            )
        return self

    @property
    def compares(self) -> bool:
        """Whether any rule holds a result against an earlier one."""
        return self._limits_drops or self.limits_creep

    @property
    def limits_creep(self) -> bool:
        """Whether any rule is about creep."""
        return any(rules.creep_db is not None for _, rules in self._each_rules())

    @property
    def _limits_drops(self) -> bool:
        return any(rules.max_drop_db is not None for _, rules in self._each_rules())

    def rules_for(self, where: Where) -> Rules:
        """The rules that hold for one measurement."""
        rules = self.rules
        for override in self.overrides:
            if override.match.fits(where):
                rules = override.rules.over(rules)
        return rules

    def _each_rules(self) -> list[tuple[str, Rules]]:
        return [("rules", self.rules)] + [
            (f"overrides.{number}.rules", override.rules) for number, override in enumerate(self.overrides)
        ]


class InlineOrNamed:
    """Marks a policy that is written out, or the name of a stored one. Errors are those of either alone."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        del self, source
        return core_schema.no_info_wrap_validator_function(
            lambda value, inline: NAME.validate_python(value) if isinstance(value, str) else inline(value),
            handler.generate_schema(Policy),
            serialization=core_schema.wrap_serializer_function_ser_schema(
                lambda value, inline: value if isinstance(value, str) else inline(value)
            ),
        )

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        name = {**NAME.json_schema(), "description": "a stored policy"}
        return {"anyOf": [handler(schema), name]}


NAME: TypeAdapter[str] = TypeAdapter(Name)
PolicyOrName = Annotated[Policy | str, InlineOrNamed()]
