"""ROUGE-L: how much of a reference an output repeats, in order."""

from __future__ import annotations

import re

from ilf_common.errors import FailedPreconditionError

_WORD = re.compile(r"[a-z0-9]+")


def rouge_l(output: str, reference: str) -> float:
    """F1 of the longest common subsequence of words, 0 to 1 (Lin 2004, section 3, without stemming).

    Words are runs of a-z and 0-9 of the lower-cased text, as in the original Perl script; a text without any scores 0.

    Raises:
        FailedPreconditionError: reason LIBRARY_MISSING; rapidfuzz is not installed.
    """
    try:
        from rapidfuzz.distance import LCSseq
    except ImportError as error:
        raise FailedPreconditionError(
            "ROUGE-L needs rapidfuzz; install it with: pip install 'ilf[evaluation]'", reason="LIBRARY_MISSING"
        ) from error
    words, wanted = _WORD.findall(output.lower()), _WORD.findall(reference.lower())
    if not words or not wanted:
        return 0.0
    return 2 * int(LCSseq.similarity(words, wanted)) / (len(words) + len(wanted))
