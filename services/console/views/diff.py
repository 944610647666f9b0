"""Differences between two texts, word by word."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from enum import Enum

# Comparing takes up to the product of the two lengths; this is about a tenth of a second.
_MOST_COMPARISONS = 2_000_000
_WORD = re.compile(r"\w+|\s+|[^\w\s]")


class Change(Enum):
    """What became of a piece."""

    SAME = "same"
    GONE = "gone"
    NEW = "new"


@dataclass(frozen=True)
class Piece:
    """A stretch of text that is in both texts, only in the first, or only in the second."""

    change: Change
    text: str


def word_diff(before: str, after: str) -> list[Piece]:
    """How `after` comes out of `before`, in whole words.

    All SAME and GONE pieces together are `before`, all SAME and NEW pieces together are `after`. What two very long
    texts have in common beyond their beginning and end is not looked for.
    """
    old, new = _WORD.findall(before), _WORD.findall(after)
    start = _common_prefix(old, new)
    end = _common_prefix(old[start:][::-1], new[start:][::-1])
    pieces = [Piece(Change.SAME, "".join(old[:start]))]
    pieces += _middle(old[start : len(old) - end], new[start : len(new) - end])
    pieces.append(Piece(Change.SAME, "".join(old[len(old) - end :])))
    return list(_merged(pieces))


def _middle(old: Sequence[str], new: Sequence[str]) -> Iterator[Piece]:
    if len(old) * len(new) > _MOST_COMPARISONS:
        yield Piece(Change.GONE, "".join(old))
        yield Piece(Change.NEW, "".join(new))
        return
    for kind, i, j, k, m in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind == "equal":
            yield Piece(Change.SAME, "".join(old[i:j]))
        else:
            yield Piece(Change.GONE, "".join(old[i:j]))
            yield Piece(Change.NEW, "".join(new[k:m]))


def _merged(pieces: Sequence[Piece]) -> Iterator[Piece]:
    """Without empty pieces, and with changed words that only a space stands between taken together."""
    gone = new = ""
    for index, piece in enumerate(pieces):
        if piece.change is Change.GONE:
            gone += piece.text
        elif piece.change is Change.NEW:
            new += piece.text
        elif gone and new and piece.text.isspace() and any(p.text for p in pieces[index + 1 :]):
            gone += piece.text
            new += piece.text
        elif piece.text:
            yield from _changed(gone, new)
            gone = new = ""
            yield piece
    yield from _changed(gone, new)


def _changed(gone: str, new: str) -> Iterator[Piece]:
    if gone:
        yield Piece(Change.GONE, gone)
    if new:
        yield Piece(Change.NEW, new)


def _common_prefix(old: Sequence[str], new: Sequence[str]) -> int:
    count = 0
    for one, other in zip(old, new, strict=False):
        if one != other:
            break
        count += 1
    return count
