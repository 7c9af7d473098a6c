"""The one model that is in memory."""

from pathlib import Path

from engine.errors import UserError
from engine.models.info import ModelInfo
from engine.models.opening import OpenModel, describe, open_model
from engine.request import ModelSpec


class ModelCache:
    """The model opened last, kept between the units of a run and between jobs: one model is in memory at a time."""

    def __init__(self) -> None:
        self._key: tuple[ModelSpec, int, str, Path | None] | None = None
        self._model: OpenModel | None = None
        self._files = ("", "")

    def get(self, spec: ModelSpec, seed: int, device: str, planned: ModelInfo, tuned: Path | None = None) -> OpenModel:
        """Open a model, or return it if it is the open one.

        Parameters
        ----------
        spec : ModelSpec
        seed : int
            What a random twin is drawn from, where the spec has no seed of its own.
        device : str
            ``cpu`` or ``cuda``.
        planned : ModelInfo
            The facts that the run was planned with.
        tuned : Path, optional
            The folder with the weights of a spec with `tuning`.

        Raises
        ------
        UserError
            If the model cannot be opened, or its files are no longer those that the run was planned with.
        """
        key = (spec, seed, device, tuned)
        model = self._model
        if (
            model is None
            or self._key != key
            or describe(spec).identity != model.info.identity
            or _files(model) != self._files
        ):
            self.close()
            model = self._model = open_model(spec, seed=seed, device=device, tuned=tuned)
            self._key, self._files = key, _files(model)
        if model.info.identity != planned.identity:
            raise UserError(changed(planned))
        return model

    def close(self) -> None:
        """Let the model go."""
        if self._model is not None:
            self._model.close()
        self._model = self._key = None


def _files(model: OpenModel) -> tuple[str, str]:
    """What tells that files were written anew under an open model, whose module would stay the old one."""
    return model.stamp(), model.written()


def changed(planned: ModelInfo) -> str:
    """What to say where a model's files are no longer those that a run began with."""
    return (
        f"{planned.label} is not the model that this run began with: its files have changed since. Bring the old files "
        "back to resume the run, or start a new run."
    )
