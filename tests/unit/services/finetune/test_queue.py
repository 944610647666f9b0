import asyncio

from services.finetune.queue import WorkQueue


async def test_what_has_changed_comes_before_what_is_due_and_everything_once() -> None:
    queue = WorkQueue()
    queue.add_due(["a", "b", "c"])
    queue.add_due(["b", "d"])
    queue.add_changed("c")
    queue.add_changed("e")
    queue.add_changed("c")
    queue.add_due(["e"])
    assert [await queue.take() for _ in range(5)] == ["c", "e", "a", "b", "d"]


async def test_who_waits_for_changes_gets_nothing_else() -> None:
    queue = WorkQueue()
    changed, any_one = asyncio.create_task(queue.take_changed()), asyncio.create_task(queue.take())
    await asyncio.sleep(0)
    queue.add_due(["a"])
    assert await any_one == "a"
    queue.add_changed("b")
    assert await changed == "b"
