"""Whether a run's units are all computed from the same weights: two models must not mix in one result."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.analyses.base import Unit
from engine.errors import UserError
from engine.models.info import ModelInfo
from engine.models.opening import OpenModel
from engine.runs.model_cache import changed


@dataclass
class WeightsRead:
    """What is known of the weights of each model, by its index in the run.

    Attributes
    ----------
    stamps : dict
        Hash of parts of every tensor, compared at every unit.
    written : dict
        When the files were written. Where that differs, they may have been edited between the parts of the stamp.
    layers : dict
        For each layer that was computed, the hash of all that was read of it, compared where the files were written
        anew.
    """

    stamps: dict[int, str] = field(default_factory=dict)
    written: dict[int, str] = field(default_factory=dict)
    layers: dict[int, dict[int, str]] = field(default_factory=dict)

    @classmethod
    def of(cls, units: Sequence[Unit], records: Mapping[str, Mapping[str, Any]]) -> "WeightsRead":
        """What committed units recorded; older versions wrote less."""
        read = cls()
        for unit in units:
            if (record := records.get(unit.key)) is None or unit.also:
                continue
            for name, known in (("weights_stamp", read.stamps), ("weights_written", read.written)):
                if record.get(name) is not None:
                    known.setdefault(unit.model, str(record[name]))
            read.note(unit.model, unit.layer, record.get("weights_hash"))
        return read

    def note(self, index: int, layer: int | None, weights_hash: str | None) -> None:
        """Keep the hash of what a unit read."""
        if layer is not None and weights_hash is not None:
            self.layers.setdefault(index, {})[layer] = weights_hash

    def require_same(self, index: int, model: OpenModel, planned: ModelInfo) -> dict[str, str]:
        """What to record beside a unit of this model.

        Raises
        ------
        UserError
            If units of this run were computed from other weights.
        """
        stamp, written = model.stamp(), model.written()
        if stamp != self.stamps.setdefault(index, stamp):
            raise UserError(changed(planned))
        if written != self.written.setdefault(index, written):
            for layer, weights_hash in self.layers.get(index, {}).items():
                if weights_hash not in model.layer_hashes(layer):
                    raise UserError(changed(planned))
            self.written[index] = written
        return {"weights_stamp": stamp, "weights_written": written}
