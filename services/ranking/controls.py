"""Rankers without a model; pure. Length alone is a strong confound, random is the floor."""

from __future__ import annotations

from hashlib import blake2b

from services.ranking.models import RankItem


def length_scores(item: RankItem) -> tuple[float, ...]:
    """Length of each candidate in characters (Unicode code points)."""
    return tuple(float(len(candidate)) for candidate in item.candidates)


def random_scores(item: RankItem, seed: int) -> tuple[float, ...]:
    """Uniform numbers in [0, 1) that follow from the seed and the item alone, whatever else is ranked and when."""
    digest = blake2b(f"{seed}".encode(), digest_size=16)
    for text in (item.item_id, item.context, item.initial_output, item.feedback, *item.candidates):
        data = text.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    key = digest.digest()
    return tuple(_uniform(key, index) for index in range(len(item.candidates)))


def _uniform(key: bytes, index: int) -> float:
    word = blake2b(index.to_bytes(4, "big"), key=key, digest_size=8).digest()
    # 53 bits fill a double exactly; more would round up to 1.
    return (int.from_bytes(word, "big") >> 11) / 2**53
