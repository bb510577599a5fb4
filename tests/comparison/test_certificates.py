"""An order is certified when it is there, and never when something spoils it: a draw of `tests/certificates.py`."""

import pytest

from inercia.comparison.convergence_order import DOUBTS
from oracles.violations import CASES, VIOLATIONS, alarm, missed


@pytest.mark.slow
@pytest.mark.parametrize("kind", VIOLATIONS)
def test_a_violation_of_each_kind_is_caught(kind):
    assert not missed(kind, len(VIOLATIONS[kind]) - 1)


def test_every_doubt_has_a_case():
    assert set(VIOLATIONS) == set(DOUBTS)
    assert len(CASES) >= 60


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 3, *(pytest.param(n, marks=pytest.mark.long) for n in (1, 2, 4, 5, 6, 7))])
def test_clean_cases_are_certified(seed):
    assert not alarm(seed)
