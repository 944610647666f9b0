"""The ranking service as its front sees it: it has no state that calls could change."""

from __future__ import annotations

from ilf.ranking.v1 import ranking_service_pb2 as pb

from ilf_common.front.api import FrontedApi
from ilf_common.front.settings import FrontSettings, front_server
from ilf_common.settings import ServerSettings


class RankingFrontSettings(FrontSettings):
    """Settings of the front; section `ranking_front`."""

    server: ServerSettings = front_server(50052, 9102)


API = FrontedApi(pool="ranking", service=pb.DESCRIPTOR.services_by_name["RankingService"], list_method="ListRankers")
