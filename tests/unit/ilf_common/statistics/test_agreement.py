import pytest

from ilf_common.statistics.agreement import agreement_with_others, krippendorff_alpha


def by_unit(*observers: str) -> list[list[str]]:
    """Labels by unit, of observers whose labels stand in a row; a dot is a missing one."""
    return [[label for label in labels if label != "."] for labels in zip(*observers, strict=True)]


@pytest.mark.parametrize(
    ("observers", "alpha"),
    [
        # The worked examples of Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), sections A, B and C.
        (("0100000010", "1110010000"), 0.095),
        (("aabbdcccedda", "babbbccceddd"), 0.692),
        (("123321412...", "1233224125.3", ".3332342251.", "12332441251."), 0.743),
    ],
)
def test_alpha_is_that_of_the_literature(observers: tuple[str, ...], alpha: float) -> None:
    assert krippendorff_alpha(by_unit(*observers)) == pytest.approx(alpha, abs=0.0005)


def test_alpha_by_hand() -> None:
    # Two of four disagree: o = 4 of 8; labels 4 x a, 4 x b: expected 32 of 56. 1 - 7 * 4 / 32 = 0.125.
    assert krippendorff_alpha([["a", "a"], ["b", "b"], ["a", "b"], ["b", "a"]]) == pytest.approx(0.125)
    assert krippendorff_alpha([["a", "a"], ["b", "b"]]) == 1.0
    assert krippendorff_alpha([["a", "b"], ["b", "a"]]) == pytest.approx(-0.5)


def test_there_is_no_alpha_where_nothing_was_labelled_twice_or_all_labels_are_the_same() -> None:
    assert krippendorff_alpha([["a"], ["b"], []]) is None
    assert krippendorff_alpha([["a", "a"], ["a", "a", "a"]]) is None


def test_everybody_is_compared_with_the_others_on_the_same_things() -> None:
    units = [{"ann": "yes", "bob": "yes", "cid": "no"}, {"ann": "no", "bob": "yes"}, {"dan": "yes"}]
    assert agreement_with_others(units) == {"ann": (1, 3), "bob": (1, 3), "cid": (0, 2)}
