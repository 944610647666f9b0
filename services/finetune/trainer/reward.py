"""Training of a Bradley-Terry reward model.

The loss of one optimizer step is the mean over its comparisons of -log sigmoid(r_chosen - r_rejected - margin).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import logsigmoid
from transformers import Trainer, TrainingArguments, set_seed

from services.finetune.models import Hyperparameters
from services.finetune.trainer.batching import Batch, PairCollator, pair_rows
from services.finetune.trainer.encoding import EncodedPair
from services.finetune.trainer.job import Runtime
from services.finetune.trainer.loading import lora_config
from services.finetune.trainer.training import ItemTraining, training_arguments


class PairTrainer(ItemTraining, Trainer):  # type: ignore[misc]
    """A transformers trainer for datasets whose rows are comparisons."""

    def count_weight(self, batch: Batch) -> torch.Tensor:
        """Comparisons in a batch, fillers not counted."""
        return batch["pair_weights"].sum()

    def compute_loss(
        self,
        model: Any,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The summed loss of a batch over the comparisons of its whole step; arguments as `ItemSftTrainer`'s."""
        logits = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False).logits
        chosen, rejected = logits.squeeze(-1).float().chunk(2)
        weights = inputs["pair_weights"]
        with torch.no_grad():
            right = ((chosen > rejected) * weights).sum()
            self.numbers.add("hits", torch.stack([right, weights.sum()]))
        total = weights.sum() if num_items_in_batch is None else num_items_in_batch
        loss: torch.Tensor = -(logsigmoid(chosen - rejected - inputs["margins"]) * weights).sum() / total
        scaled: torch.Tensor = loss * self.accelerator.num_processes
        return scaled


def build_reward_trainer(
    model: Any,
    tokenizer: Any,
    pairs: Sequence[EncodedPair],
    wanted: Hyperparameters,
    runtime: Runtime,
    work_dir: Path,
    *,
    processes: int,
) -> PairTrainer:
    """A trainer that is ready to run, with a new adapter on the model when one is wanted."""
    if wanted.lora:
        from peft import get_peft_model

        set_seed(wanted.seed % 2**32)
        model = get_peft_model(model, lora_config(wanted.lora, task="SEQ_CLS"))
        if wanted.gradient_checkpointing:
            model.enable_input_require_grads()
    trainer = PairTrainer(
        model=model,
        args=TrainingArguments(**training_arguments(wanted, runtime, work_dir, processes=processes)),
        data_collator=PairCollator(tokenizer.pad_token_id),
        train_dataset=pair_rows(pairs),
        processing_class=tokenizer,
    )
    trainer.prepare_items()
    return trainer
