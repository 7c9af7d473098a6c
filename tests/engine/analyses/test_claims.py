"""Claims survive the way to disk and back, and none has a verdict without a number."""

import pytest
import xarray as xr

from engine.analyses.claims import Claim, to_json
from engine.analyses.header import Header

HOLDS = Claim("S1 §3.1", "α grows with depth", "Spearman ρ 0.93, p 0.004 against permuted layers", "holds", "By layer")
OPEN = Claim("S1 §3.3", "dropout raises α", "needs models trained with more dropout", "cannot say", "")


def test_claims_come_back_from_the_attributes_of_a_dataset() -> None:
    ds = xr.Dataset(attrs={"claims": to_json([HOLDS, OPEN])})
    assert Header.of(ds).claims == (HOLDS, OPEN)
    assert Header.of(xr.Dataset()).claims == ()
    assert "α" in ds.attrs["claims"]


def test_a_verdict_needs_its_number() -> None:
    with pytest.raises(ValueError, match="needs its number"):
        Claim("S1", "α grows with depth", "it clearly does", "holds", "")
    with pytest.raises(ValueError, match="no verdict"):
        Claim("S1", "α grows with depth", "ρ 0.9", "perhaps", "")  # type: ignore[arg-type]
