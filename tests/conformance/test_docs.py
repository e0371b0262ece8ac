"""docs/conformance.md is of the operators that there are, and of what torch registers."""

import re
from pathlib import Path

from noisefloor_workers.conformance import registry
from noisefloor_workers.conformance.operators import OPERATORS

PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"


def test_the_page_has_a_row_for_each_operator_under_each_cap() -> None:
    tables = PAGE.read_text().split("\n## ISA cap ")[1:]
    assert tables
    for table in tables:
        rows = re.findall(r"^\| (\w+::.*?) \|", table.partition("\n## Deviations")[0], re.MULTILINE)
        assert rows == list(OPERATORS)


def test_the_page_lists_what_is_registered() -> None:
    listed = PAGE.read_text().partition("\n## What torch registers")[2]
    assert re.findall(r"^\| `(.*?)` \|", listed, re.MULTILINE) == registry.registered()


def test_each_deviation_has_a_script_and_is_known() -> None:
    deviations = PAGE.read_text().partition("\n## Deviations")[2].partition("\n## What torch")[0]
    headed = deviations.split("\n### ")[1:]
    assert headed
    for one in headed:
        assert "raise SystemExit" in one
        assert "Not known." not in one
