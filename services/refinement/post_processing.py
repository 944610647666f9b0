"""Cleaning of samples and the choice among more samples than were asked for (paper, facts sheet 1.2)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from ilf_common.engine.port import Sample
from services.refinement.models import PostProcessing

# A single space, which is most of them, is squeezed already.
_WHITE_SPACE = re.compile(r"\s{2,}|[^\S ]")
_SENTENCE_END = re.compile(r"[.?!]+[\"'\u201d\u2019)\]]*(?=\s|$)")
_LAST_WORD = re.compile(r"[^\s(\[\"'\u201c\u2018]+$")
# Their dot belongs to the word, whatever follows.
_ABBREVIATIONS = frozenset({"e.g", "i.e", "cf", "vs", "mr", "mrs", "ms", "dr", "prof", "approx", "resp", "viz"})
_LONGEST_ABBREVIATION = 16


def clean(text: str, options: PostProcessing) -> str:
    """Cleans one sample as the options say; cleaning a clean text changes nothing."""
    if options.normalize_whitespace:
        text = _drop_leading_marks(text)
    if options.first_line_only:
        text = text.lstrip("\r\n").split("\n", 1)[0].rstrip("\r")
    if options.normalize_whitespace:
        text = _WHITE_SPACE.sub(_squeezed, text).strip()
    if options.drop_unfinished_sentence:
        text = drop_unfinished_sentence(text)
    return text


def drop_unfinished_sentence(text: str) -> str:
    """Cuts behind the last `.`, `?` or `!` that ends a sentence; without one the text stays whole.

    A mark ends a sentence only in front of white space or the end, and not after an abbreviation or an initial, so
    that "costs 3.50 or, e.g. in May, less" is not cut within a number or word.
    """
    for match in reversed(list(_SENTENCE_END.finditer(text))):
        if not _is_abbreviation(text, match):
            return text[: match.end()]
    return text


def wants_more(samples: Sequence[Sample], options: PostProcessing) -> bool:
    """Whether cleaned samples hold duplicates, empty texts or a forbidden substring, and the budget allows more."""
    if options.resample_budget <= len(samples):
        return False
    texts = [sample.text for sample in samples]
    return len(set(texts)) < len(texts) or not all(_is_acceptable(text, options) for text in texts)


def arrange(samples: Sequence[Sample], count: int, options: PostProcessing) -> tuple[Sample, ...]:
    """The best `count` samples: unique acceptable ones, then acceptable duplicates, then the rest.

    Within each group they stay in the order in which they were generated.
    """
    unique: list[Sample] = []
    duplicates: list[Sample] = []
    rest: list[Sample] = []
    seen: set[str] = set()
    for sample in samples:
        if not _is_acceptable(sample.text, options):
            rest.append(sample)
        elif sample.text in seen:
            duplicates.append(sample)
        else:
            seen.add(sample.text)
            unique.append(sample)
    return tuple([*unique, *duplicates, *rest][:count])


def clean_samples(samples: Sequence[Sample], target_prefix: str, options: PostProcessing) -> tuple[Sample, ...]:
    """Cleaned samples without the template's target prefix, which training and scoring put back in front."""
    return tuple(replace(sample, text=clean(sample.text.removeprefix(target_prefix), options)) for sample in samples)


def _is_acceptable(text: str, options: PostProcessing) -> bool:
    return bool(text.strip()) and not any(part in text for part in options.forbidden_substrings)


def _drop_leading_marks(text: str) -> str:
    start = next((index for index, character in enumerate(text) if character.isalnum()), len(text))
    return text[start:]


def _squeezed(match: re.Match[str]) -> str:
    """A run of white space becomes one newline where it breaks the line, else one space."""
    return "\n" if "\n" in match.group() else " "


def _is_abbreviation(text: str, end: re.Match[str]) -> bool:
    if not end.group().startswith("."):
        return False
    word = _LAST_WORD.search(text, max(0, end.start() - _LONGEST_ABBREVIATION), end.start())
    if word is None:
        return False
    last = word.group().lower()
    is_initial = len(last) == 1 and last != "i" and last.isalpha() and word.group().isupper() and end.end() < len(text)
    return last in _ABBREVIATIONS or is_initial
