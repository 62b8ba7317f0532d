"""The common base of all specs: frozen, strict about names, JSON in and out."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from fgmclip.spec.errors import SpecError

Self = TypeVar("Self", bound="FrozenSpec")

STORED = "stored"
"""Key of the validation context that says that an earlier version may have written this."""


class FrozenSpec(BaseModel):
    """A frozen pydantic model whose errors name the field, what came and the remedy."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def to_json(self) -> str:
        """Return the spec as indented JSON; `from_json` reads it back to an equal spec."""
        return self.model_dump_json(indent=2)

    @classmethod
    def from_json(cls: type[Self], text: str | bytes, *, stored: bool = False) -> Self:
        """Read what `to_json` wrote.

        Args:
            text: JSON.
            stored: Whether a release or a checkpoint holds it: one of an earlier version may have
                labels that a new model may not, and can still be read.

        Raises:
            SpecError: The text is not JSON, or a field is missing, unknown or out of range.
        """
        try:
            return cls.model_validate_json(text, context={STORED: stored})
        except ValidationError as error:
            raise SpecError.from_validation(error, cls.__name__) from error

    @classmethod
    def of(cls: type[Self], **fields: Any) -> Self:
        """Build a spec from keyword arguments, raising `SpecError` instead of pydantic's error."""
        try:
            return cls(**fields)
        except ValidationError as error:
            raise SpecError.from_validation(error, cls.__name__) from error

    def replace(self: Self, **changes: Any) -> Self:
        """Return a copy with some fields changed, checked like a new one.

        Raises:
            SpecError: A changed field is unknown or out of range.
        """
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self).of(**(fields | changes))
