"""Parameters from text as people type it."""

import pytest

from engine.analyses.parameters import table, validate
from engine.analyses.registry import get_analysis
from engine.errors import UserError


def test_lists_are_written_with_commas_or_as_json():
    jacobians, attention = get_analysis("jacobians"), get_analysis("attention")
    assert validate(jacobians, {"components": "attn, mlp"}).components == ("attn", "mlp")
    assert validate(jacobians, {"components": "block"}).components == ("block",)
    assert validate(attention, {"lengths": "16,32"}).lengths == (16, 32)
    assert validate(attention, {"lengths": [16, 32]}).lengths == (16, 32)


def test_a_wrong_entry_of_a_list_is_named():
    with pytest.raises(UserError, match=r"components.*'head'"):
        validate(get_analysis("jacobians"), {"components": "attn,head"})


def test_the_table_says_how_a_list_is_written():
    rows = {name: accepts for name, _, accepts, _ in table(get_analysis("jacobians"))}
    assert rows["components"] == "values a,b,…"
