"""The toy model's curriculum: levels end when they are learnt, and none lasts for ever."""

from functools import partial

import pytest

from examples.word_removal.corpus import FULL
from examples.word_removal.training import Curriculum


def steps_of(steps: int, learnt_after: int | None) -> list[int]:
    """At which steps the levels after the first begin, if each is learnt after as many steps of its own."""
    curriculum, begun = Curriculum(steps), [0]
    for step in range(steps):
        learnt = learnt_after is not None and step - begun[-1] >= learnt_after
        if curriculum.advance(step, partial(bool, learnt)):
            begun.append(step)
    assert curriculum.difficulty == FULL and curriculum.title == "difficulty 5 of 5"
    return begun[1:]


def test_levels_go_up_as_they_are_learnt() -> None:
    assert steps_of(1500, learnt_after=50) == [50, 100, 150, 200]


def test_a_level_lasts_until_its_loss_can_be_told() -> None:
    assert steps_of(1500, learnt_after=0) == [20, 40, 60, 80]


def test_what_is_not_learnt_ends_in_time() -> None:
    assert steps_of(1500, learnt_after=None) == [450, 675, 825, 900]
    assert steps_of(1500, learnt_after=460) == [450, 675, 825, 900]


@pytest.mark.parametrize("steps", [20, 100, 1000])
def test_everything_is_reached_with_two_fifths_of_the_steps_left(steps: int) -> None:
    assert steps_of(steps, learnt_after=None)[-1] <= 0.6 * steps


def test_the_shipped_size_learns_each_level_before_its_time_is_over() -> None:
    learnt = [167, 424, 715, 844]
    curriculum = Curriculum(1500)
    begun = [step for step in range(1500) if curriculum.advance(step, partial(learnt.__contains__, step))]
    assert begun == learnt
