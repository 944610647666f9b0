"""A Ray cluster that gets the ranking service by import path, as from KubeRay; each line on stdin deploys it anew."""

from __future__ import annotations

import importlib
import os
import sys

IMPORT_PATH = "services.ranking.adapters.ray_serve_app:application"


def main(folder: str) -> None:
    import ray
    from ray import serve

    ray.init(
        address="local",
        include_dashboard=False,
        log_to_driver=False,
        num_cpus=1,
        object_store_memory=100 * 1024 * 1024,
        resources={"ilf_head": 1, "ilf_judge": 1},
        _temp_dir=folder,
    )
    serve.start(proxy_location="Disabled")
    module, _, name = IMPORT_PATH.partition(":")
    build = getattr(importlib.import_module(module), name)
    print("DEPLOYED", flush=True) if serve.run(build({}), name="ilf-ranking", route_prefix="/") else None
    for line in sys.stdin:
        # Another timeout of the ensemble's calls is enough to make all replicas of the ingress other ones.
        os.environ["ILF_RANKING__RAY__CALL_TIMEOUT_SECONDS"] = line.strip()
        serve.run(build({}), name="ilf-ranking", route_prefix="/")
        print("DEPLOYED", flush=True)
    ray.shutdown()


if __name__ == "__main__":
    main(sys.argv[1])
