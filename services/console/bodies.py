"""What the scripts of pages send: JSON, checked by a typed model."""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import Request

from ilf_common.errors import FieldViolation, InvalidArgumentError


class Body(BaseModel):
    """Base of what is sent; unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


BodyT = TypeVar("BodyT", bound=Body)


async def read_body(request: Request, model: type[BodyT]) -> BodyT:
    """The request's JSON as a value.

    Raises:
        InvalidArgumentError: It is no JSON, no UTF-8 (half of a surrogate pair is none), or has wrong fields.
    """
    try:
        return model.model_validate_json(await request.body())
    except ValidationError as error:
        violations = [
            FieldViolation(".".join(map(str, entry["loc"])) or "body", entry["msg"]) for entry in error.errors()
        ]
        raise InvalidArgumentError(violations=violations) from None
