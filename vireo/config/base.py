"""What all configuration blocks share: strict types, unknown keys answered with the nearest one.

A block is an immutable pydantic object; `dump` gives it back as written plus the defaults that are
part of it, so that hashes of blocks do not change when a key with an empty default is added.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, model_validator
from pydantic_core import PydanticCustomError

from vireo.errors import unknown


def key(description: str, default: Any = ..., unit: str = "", **more: Any) -> Any:
    """A field: what it means, its default (required without one), its unit, its bounds."""
    extra: Any = {"unit": unit} if unit else None
    return Field(default, description=description, json_schema_extra=extra, **more)


def group(description: str, kind: Any, **more: Any) -> Any:
    """A field that is a block of its own, with that block's defaults."""
    return Field(default_factory=kind, description=description, **more)


def _number(value: Any) -> Any:
    """An int or a float, kept as written (1 and 1.0 hash differently)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise PydanticCustomError("number_type", "")
    if not math.isfinite(value):
        raise PydanticCustomError("finite_number", "")
    return value


def _boolean(value: Any) -> Any:
    """`--config offline=true` comes as text."""
    return value == "true" if value in ("true", "false") else value


def _text_or_whole(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise PydanticCustomError("string_type", "")
    return value


def _one_or_more(value: Any) -> Any:
    return [_number(each) for each in value] if isinstance(value, list) else _number(value)


def _side_or_sides(value: Any) -> Any:
    sides = value if isinstance(value, list) else [value]
    if any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in sides):
        raise PydanticCustomError("int_type", "")
    if isinstance(value, list) and len(value) != 2:
        raise PydanticCustomError("sides", "give one side or [height, width]")
    return value


Number = Annotated[float, PlainValidator(_number, json_schema_input_type=float)]
Share = Annotated[Number, Field(ge=0, le=1)]
Positive = Annotated[Number, Field(gt=0)]
NotNegative = Annotated[Number, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Index = Annotated[int, Field(ge=0)]
Flag = Annotated[bool, BeforeValidator(_boolean)]
TextOrWhole = Annotated[int | str, PlainValidator(_text_or_whole, json_schema_input_type=int | str)]
Sweep = Annotated[
    float | list[float],
    PlainValidator(_one_or_more, json_schema_input_type=float | list[float]),
]
Sides = Annotated[
    int | list[int], PlainValidator(_side_or_sides, json_schema_input_type=int | list[int])
]
Dtype = Literal["float32", "bfloat16", "float16"]
RGB = Annotated[list[Number], Field(min_length=3, max_length=3)]
RGBDivisor = Annotated[list[Positive], Field(min_length=3, max_length=3)]


class Block(BaseModel):
    """A mapping of the configuration whose keys are all known."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, serialize_by_alias=True, protected_namespaces=()
    )
    # Which defaults belong to the block as it is dumped and hashed: all, those that are not null,
    # or none (the block stays as written).
    defaults_dumped: ClassVar[Literal["all", "values", "none"]] = "values"

    @classmethod
    def keys_known(cls) -> list[str]:
        """Names of the keys, as they are written."""
        return [field.alias or name for name, field in cls.model_fields.items()]

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and cls.model_config.get("extra") == "forbid":
            known = cls.keys_known()
            if wrong := [str(each) for each in value if each not in known]:
                found = "; ".join(str(unknown("key", each, known)) for each in wrong)
                raise PydanticCustomError(
                    "unknown_key", "{found}", {"found": found, "key": wrong[0]}
                )
        return value

    @model_validator(mode="after")
    def _keep_defaults(self) -> Any:
        if self.defaults_dumped != "none":
            self.__pydantic_fields_set__.update(
                name
                for name, field in type(self).model_fields.items()
                if self.defaults_dumped == "all" or getattr(self, name) is not None
            )
        return self

    def dump(self) -> dict[str, Any]:
        """The block as written, with its defaults: JSON-like."""
        return self.model_dump(exclude_unset=True)

    def without(self, name: str) -> Self:
        """The same block with an optional field left out."""
        copy = self.model_copy(update={name: None})
        copy.__pydantic_fields_set__.discard(name)
        return copy

    def written(self, name: str) -> bool:
        """Whether a field was given (a null counts) or has a default that is dumped."""
        return name in self.model_fields_set


class Open(Block):
    """A block to which a user's model or benchmark file may add keys of its own.

    Where the reader is one of ours, the keys are checked against it by `readers.check`.
    """

    model_config = ConfigDict(extra="allow")
    defaults_dumped = "none"
