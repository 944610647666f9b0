"""The trainer, with accelerate made to shard over processes without GPUs, which by itself it does over GPUs only."""

from __future__ import annotations

import sys
from typing import Any

from accelerate import PartialState
from accelerate.utils import DistributedType

from services.finetune.trainer.__main__ import main


def shard_on_cpu() -> None:
    """Has accelerate take processes that meet by gloo for processes with a GPU each."""
    begin = PartialState.__init__

    def taken_for_gpus(self: PartialState, *args: Any, **options: Any) -> None:
        begin(self, *args, **options)
        if self.distributed_type is DistributedType.MULTI_CPU:
            self.distributed_type = DistributedType.MULTI_GPU

    PartialState.__init__ = taken_for_gpus


if __name__ == "__main__":
    shard_on_cpu()
    sys.exit(main())
