"""Differences between two texts, word by word."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from enum import Enum

# Comparing takes up to the product of the two lengths; this is about a tenth of a second.
_MOST_COMPARISONS = 1_000_000
# Each with the space after it: there are fewer of them, and none that is everywhere.
_WORD = re.compile(r"(?:\w+|[^\w\s])\s*|\s+")


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
    words, others = [word.strip() for word in old], [word.strip() for word in new]
    start = _common_prefix(words, others)
    end = _common_prefix(words[start:][::-1], others[start:][::-1])
    pieces: list[Piece] = []
    for kind, i, j, k, m in _opcodes(words, others, start, end):
        if kind == "equal":
            pieces += (piece for pair in zip(old[i:j], new[k:m], strict=True) for piece in _of_equal_words(*pair))
        else:
            pieces += [Piece(Change.GONE, "".join(old[i:j])), Piece(Change.NEW, "".join(new[k:m]))]
    return list(_merged(pieces))


def _opcodes(old: Sequence[str], new: Sequence[str], start: int, end: int) -> Iterator[tuple[str, int, int, int, int]]:
    """As of `SequenceMatcher`, where the first `start` and the last `end` words are known to be equal."""
    last, other_last = len(old) - end, len(new) - end
    yield "equal", 0, start, 0, start
    if (last - start) * (other_last - start) > _MOST_COMPARISONS:
        yield "replace", start, last, start, other_last
    else:
        matcher = SequenceMatcher(None, old[start:last], new[start:other_last], autojunk=False)
        for kind, i, j, k, m in matcher.get_opcodes():
            yield kind, start + i, start + j, start + k, start + m
    yield "equal", last, len(old), other_last, len(new)


def _of_equal_words(old: str, new: str) -> list[Piece]:
    """The same word, and what became of the space after it."""
    if old == new:
        return [Piece(Change.SAME, old)]
    word = old.strip()
    before, after = old.removeprefix(word), new.removeprefix(word)
    return [Piece(Change.SAME, word), Piece(Change.GONE, before), Piece(Change.NEW, after)]


def _merged(pieces: Sequence[Piece]) -> Iterator[Piece]:
    """Without empty pieces; neighbours of one kind are one piece."""
    same = gone = new = ""
    for piece in pieces:
        if piece.change is Change.SAME and piece.text:
            yield from _changed(gone, new)
            gone = new = ""
            same += piece.text
        elif piece.text:
            yield from [Piece(Change.SAME, same)] if same else []
            same = ""
            gone += piece.text if piece.change is Change.GONE else ""
            new += piece.text if piece.change is Change.NEW else ""
    yield from [Piece(Change.SAME, same)] if same else []
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
