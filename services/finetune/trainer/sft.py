"""Supervised finetuning on weighted completions.

The loss of one optimizer step over its items i, their rows j and their tokens t:

    L = - sum_i sum_j w_ij sum_t u_ijt log p(x_ijt | x_ij<t)  /  sum_i sum_j w_ij sum_t u_ijt

with row weights w (1 in sum for every item; Eq. 4's self-normalised weights) and token weights u (1 for completions,
`prompt_loss_weight` for prompts). The denominator, the expected number of weighted tokens, is one number per step: it
sets the length of the step and leaves the proportions between rows to the weights. With one row of weight 1 per item
the loss is the usual token mean (docs/theory.md, section 6).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from services.finetune.models import Hyperparameters
from services.finetune.trainer.batching import Batch, ItemCollator, item_columns
from services.finetune.trainer.encoding import EncodedItem
from services.finetune.trainer.job import Runtime
from services.finetune.trainer.loading import lora_config
from services.finetune.trainer.training import ItemTraining, training_arguments


class ItemSftTrainer(ItemTraining, SFTTrainer):  # type: ignore[misc]
    """TRL's trainer, with its fused output layer, for datasets whose rows are items with weights."""

    def count_weight(self, batch: Batch) -> torch.Tensor:
        """Sum of the weights of all tokens that are predicted; a sequence's first token is not."""
        return batch["loss_weights"][:, 1:].sum()

    def compute_loss(
        self,
        model: Any,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The weighted negative log-likelihood of a batch over the weight of its whole step.

        Args:
            model: Wrapped for the processes that train together.
            inputs: A collated batch.
            return_outputs: Not supported; the fused output layer builds no logits.
            num_items_in_batch: Weight of the step; None counts this batch alone.
        """
        weights = inputs["loss_weights"][:, 1:]
        outputs = model(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            labels=inputs["labels"],
            use_cache=False,
            fused_lm_head=True,
        )
        total = weights.sum() if num_items_in_batch is None else num_items_in_batch
        loss: torch.Tensor = -(outputs.log_probs * weights).sum() / total
        # DDP averages gradients over processes, and `total` already counts all of them.
        scaled: torch.Tensor = loss * self.accelerator.num_processes
        return scaled


def build_sft_trainer(
    model: Any,
    tokenizer: Any,
    items: Sequence[EncodedItem],
    wanted: Hyperparameters,
    runtime: Runtime,
    work_dir: Path,
    *,
    processes: int,
) -> ItemSftTrainer:
    """A trainer that is ready to run; puts a new adapter on the model when one is wanted and there is none."""
    pad_token_id = next(i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id, 0) if i is not None)
    arguments = SFTConfig(
        **training_arguments(wanted, runtime, work_dir, processes=processes),
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
    )
    adapter_is_new = wanted.lora is not None and not hasattr(model, "peft_config")
    trainer = ItemSftTrainer(
        model=model,
        args=arguments,
        data_collator=ItemCollator(pad_token_id),
        train_dataset=Dataset.from_dict(item_columns(items, pad_token_id)),
        processing_class=tokenizer,
        peft_config=lora_config(wanted.lora, task="CAUSAL_LM") if wanted.lora and adapter_is_new else None,
    )
    trainer.prepare_items()
    return trainer
