"""Batches cut into pieces: every item once, in order, and named by its place in the whole."""

from __future__ import annotations

from typing import Any

from google.rpc import error_details_pb2
from ilf.ranking.v1 import ranking_service_pb2 as ranking
from ilf.refinement.v1 import refinement_service_pb2 as pb
from ilf.reward.v1 import reward_service_pb2 as reward

from ilf_common.errors import InvalidArgumentError, UnavailableError
from ilf_common.front.pieces import cut
from ilf_common.rpc.status import to_status


def request(count: int) -> Any:
    items = [pb.RefineItem(item_id=f"i{number}", context=str(number)) for number in range(count)]
    return pb.BatchRefineRequest(model="base", items=items)


def answer(*outcomes: pb.RefineOutcome) -> pb.BatchRefineResponse:
    return pb.BatchRefineResponse(outcomes=outcomes)


def done(item_id: str) -> pb.RefineOutcome:
    return pb.RefineOutcome(item_id=item_id, result=pb.RefineResponse(model_version="v"))


def ids(message: Any) -> list[str]:
    return [one.item_id for one in (message.items if hasattr(message, "items") else message.outcomes)]


def test_pieces_hold_all_items_in_order_and_what_they_share() -> None:
    pieces = cut(request(10), 4)
    assert [ids(piece.request()) for piece in pieces] == [
        ["i0", "i1", "i2", "i3"],
        ["i4", "i5", "i6", "i7"],
        ["i8", "i9"],
    ]
    assert all(piece.request().model == "base" for piece in pieces)


def test_every_batch_call_of_the_project_can_be_cut() -> None:
    rank = ranking.BatchRankRequest(ranker=ranking.RankerSpec(name="length"), items=[ranking.RankItem(item_id="a")])
    judge = ranking.JudgeSpec(name="j")
    compare = ranking.BatchCompareRequest(judges=[judge], items=[ranking.CompareItem(item_id="a")])
    score = reward.BatchScoreRequest(models=["m"], items=[reward.ScoreItem(item_id="a")], normalize=True)
    prefer = reward.BatchCompareRequest(models=["m", "n"], items=[reward.CompareItem(item_id="a")])
    for batch in (rank, compare, score, prefer, pb.BatchGenerateRequest(items=[pb.GenerateItem(item_id="a")])):
        (piece,) = cut(batch, 8)
        assert piece.request() == batch


def test_only_items_without_an_outcome_are_sent_again() -> None:
    (piece,) = cut(request(4), 4)
    piece.request()
    assert ids(piece.take(answer(done("i2"), done("i0")), last=False)) == ["i2", "i0"]
    assert ids(piece.take(answer(done("i2")), last=False)) == [], "no item is answered twice"
    assert ids(piece.request()) == ["i1", "i3"] and piece.unanswered == 2


def test_items_that_may_fare_better_elsewhere_stay_until_the_last_worker() -> None:
    (piece,) = cut(request(1), 4)
    piece.request()
    broken = pb.RefineOutcome(item_id="i0", error=to_status(UnavailableError("dead", reason="ENGINE_DEAD")))
    assert not piece.take(answer(broken), last=False).outcomes and piece.unanswered == 1
    assert ids(piece.take(answer(broken), last=True)) == ["i0"]


def test_errors_name_items_by_their_place_in_the_whole_batch() -> None:
    piece = cut(request(10), 4)[1]
    piece.request()
    piece.take(answer(done("i4")), last=False)
    piece.request()
    error = to_status(InvalidArgumentError.of("items[1].context", "must not be empty"))
    taken = piece.take(answer(pb.RefineOutcome(item_id="i6", error=error)), last=False)
    details = error_details_pb2.BadRequest()
    assert taken.outcomes[0].error.details[1].Unpack(details)
    assert details.field_violations[0].field == "items[6].context"
    assert taken.outcomes[0].error.message.startswith("items[6].context")


def test_a_batch_whose_ids_tell_nothing_stays_whole() -> None:
    for items in ([], ["a", "a", "b"], ["a", "", "c"]):
        batch = pb.BatchRefineRequest(items=[pb.RefineItem(item_id=item) for item in items])
        (piece,) = cut(batch, 1)
        assert piece.request() == batch and not piece.unanswered
