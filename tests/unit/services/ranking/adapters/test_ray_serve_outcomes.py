from __future__ import annotations

import pickle

from ilf_common.engine.port import Outcome
from ilf_common.errors import FieldViolation, InvalidArgumentError, UnavailableError
from services.ranking.adapters.ray_serve_outcomes import pack, unpack


def test_values_and_errors_survive_the_way_between_processes() -> None:
    refused = InvalidArgumentError(violations=[FieldViolation("prompt", "too long")], reason="PROMPT_TOO_LONG")
    down = UnavailableError("The engine is dead.", reason="ENGINE_DEAD", retry_after=1.5)
    outcomes = [Outcome(0, value=(1.0, 2.0)), Outcome[tuple[float, float]](1, error=refused), Outcome(2, error=down)]
    one, two, three = unpack(pickle.loads(pickle.dumps(pack(outcomes))))
    assert one == outcomes[0]
    assert isinstance(two.error, InvalidArgumentError)
    assert (two.error.reason, two.error.violations) == ("PROMPT_TOO_LONG", refused.violations)
    assert isinstance(three.error, UnavailableError)
    assert (three.error.reason, three.error.retry_after) == ("ENGINE_DEAD", 1.5)
