"""Pages of a list by an opaque token that names the last item seen."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable
from typing import TypeVar

from ilf_common.errors import InvalidArgumentError, require

DEFAULT_PAGE_SIZE = 50
MAX_PAGE_SIZE = 1000
# In front of the key, so that the token of an empty key is not the empty token of the first page.
_MARK = b"after:"
_FOREIGN = "is no token that an earlier page answered"
ItemT = TypeVar("ItemT")


def page(
    items: Iterable[ItemT], page_size: int, page_token: str, *, key: Callable[[ItemT], str]
) -> tuple[list[ItemT], str]:
    """One page of `items` in the order of `key`.

    Items that come or go between two pages neither repeat nor hide others, because a token names a key and no offset.

    Args:
        items: All items, in any order.
        page_size: 0 means 50; more than 1000 is taken as 1000.
        page_token: Empty for the first page, else what the page before answered.
        key: A unique text per item.

    Returns:
        The page, and the token of the next one (empty after the last).

    Raises:
        InvalidArgumentError: A negative size or a token that no page answered.
    """
    require(page_size >= 0, "page_size", f"must not be negative, is {page_size}")
    size = min(page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)
    after = decode_token(page_token)
    rest = sorted((item for item in items if after is None or key(item) > after), key=key)
    token = encode_token(key(rest[size - 1])) if len(rest) > size else ""
    return rest[:size], token


def encode_token(last_key: str) -> str:
    """The token of the page after `last_key`."""
    return base64.urlsafe_b64encode(_MARK + last_key.encode()).decode()


def decode_token(token: str) -> str | None:
    """The key that a token names, None for the empty one.

    Raises:
        InvalidArgumentError: No page answered this token.
    """
    if not token:
        return None
    try:
        content = base64.b64decode(token, altchars=b"-_", validate=True)
        require(content.startswith(_MARK), "page_token", _FOREIGN)
        return content.removeprefix(_MARK).decode()
    except (binascii.Error, UnicodeError) as error:
        raise InvalidArgumentError.of("page_token", _FOREIGN) from error
