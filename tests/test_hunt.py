"""A short draw of the hunt; `make faults` runs 5,000 cases."""

import pytest

import hunt


@pytest.mark.slow
def test_random_cases_agree_with_their_oracles(capsys):
    played, failed = hunt.hunt(range(40))
    assert not failed, capsys.readouterr().out
    assert len(played) >= 8
