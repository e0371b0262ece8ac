"""What differs between environments, in words."""

from noisefloor.contract.trend import FieldChange
from noisefloor.history.environments import differences


def test_a_field_that_is_new_was_none() -> None:
    assert differences({}, {"torch": "2.13"}) == (FieldChange(field="torch", before="none", after="2.13"),)
    # written before the contract had these fields
    assert differences({}, {"gpu": None, "plugins": {}}) == ()
    assert differences({"plugins": {}}, {"plugins": {"acme": "2"}}) == (
        FieldChange(field="plugins", before="none", after="acme 2"),
    )
