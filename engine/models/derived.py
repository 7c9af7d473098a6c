"""Tensors that are made of stored ones when they are read: dequantised, or merged with an adapter."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from engine.errors import UserError, reason
from engine.models.checkpoint import Stored


@dataclass(frozen=True)
class Derived(Stored):
    """One tensor that `make` makes of others, which it reads then and not before.

    `file` and `offsets` are those of the first part. `method` names what is made, in words that tell two apart, and
    `stored_as` what the values were stored as where no part says so.
    """

    made_of: tuple[Stored, ...] = ()
    method: str = ""
    stored_as: str = ""
    make: Callable[..., Tensor] = field(kw_only=True, compare=False)

    @property
    def nbytes(self) -> int:
        """Bytes on disk of all its parts."""
        return sum(part.nbytes for part in self.parts)

    @property
    def storage(self) -> str:
        """The format that its first part is in, or that several parts make together."""
        return self.stored_as or self.made_of[0].storage

    @property
    def parts(self) -> tuple[Stored, ...]:
        """The stored tensors that are read for it, those of its parts included."""
        return tuple(part for source in self.made_of for part in source.parts)

    @property
    def rule(self) -> str:
        """The methods of its parts and its own."""
        return " ".join(filter(None, (*(part.rule for part in self.made_of), self.method)))

    def read(self) -> Tensor:
        """Read the parts and make the tensor of them.

        Raises
        ------
        UserError
            If the parts do not fit together.
        """
        try:
            return self.make(*(part.read() for part in self.made_of))
        except (ValueError, RuntimeError, AssertionError, IndexError, TypeError) as error:
            raise UserError(
                f"Tensor {self.key} in {self.file} cannot be made by {self.method}: {reason(error)}. "
                "Download it again.",
                repr(error),
            ) from error


def derive(
    key: str,
    parts: Sequence[Stored],
    shape: tuple[int, ...],
    method: str,
    make: Callable[..., Tensor],
    *,
    dtype: str = "F32",
    stored_as: str = "",
) -> Derived:
    """The tensor `key` of shape `shape` which `make` makes of `parts`, in float32 if nothing else is said.

    `method` says how, and `stored_as` in which format the values were where no part says so.
    """
    first = parts[0]
    return Derived(
        first.file, key, dtype, shape, first.offsets, first.start, tuple(parts), method, stored_as, make=make
    )
