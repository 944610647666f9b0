"""The ranking service as its front sees it: it has no state that calls could change."""

from __future__ import annotations

from ilf.ranking.v1 import ranking_service_pb2 as pb

from ilf_common.front.api import FrontedApi

API = FrontedApi(pool="ranking", service=pb.DESCRIPTOR.services_by_name["RankingService"], list_method="ListRankers")
