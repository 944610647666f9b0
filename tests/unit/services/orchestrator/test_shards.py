from services.orchestrator.shards import ShardId, StageKey, shard_count, shard_key, why_again


def test_a_key_follows_from_every_part_and_from_the_input() -> None:
    key = StageKey("refine", {"model": "m", "seed": "1"})
    keys = {
        shard_key(key.for_input("a")),
        shard_key(key.for_input("b")),
        shard_key(StageKey("refine", {"model": "m", "seed": "2"}).for_input("a")),
        shard_key(StageKey("refine", {"model": "n", "seed": "1"}).for_input("a")),
    }
    assert len(keys) == 4
    assert shard_key(key.for_input("a")) in keys


def test_the_reason_names_what_changed_and_nothing_else() -> None:
    before = {"model": "0" * 64, "seed": "1", "template": "t"}
    now = {"model": "f" * 64, "seed": "1", "judges": "j"}
    assert why_again(before, now) == (
        "judges was none, is j; model was 000000000000, is ffffffffffff; template was t, is none"
    )


def test_a_shard_lies_in_its_runs_folder() -> None:
    shard = ShardId("a", 2, "rank", 7)
    assert f"{shard.folder}/{shard.file_name}" == "runs/a/it-2/rank/part-00007.parquet"
    assert shard.of_stage("refine").folder == "runs/a/it-2/refine"


def test_the_last_shard_may_be_short() -> None:
    assert [shard_count(rows, 4) for rows in (0, 1, 4, 5)] == [0, 1, 1, 2]
