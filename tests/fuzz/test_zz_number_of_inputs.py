"""The suite is as large as it says: run behind the others, it counts what they have tried."""

from pathlib import Path

import pytest

from .reaction import EXECUTED

LEAST = dict(
    config=500, annotation=400, cfg=300, checkpoint=100, image=100, weights=50, argument=150
)


def test_number_of_distinct_inputs(request):
    modules = {Path(str(item.path)).name for item in request.session.items}
    if not {path.name for path in Path(__file__).parent.glob('test_*.py')} <= modules:
        pytest.skip('a part of the suite was left out')
    counts = {kind: len(cases) for kind, cases in EXECUTED.items()}
    print(f'{sum(counts.values())} distinct bad inputs: {counts}')
    assert {kind for kind, least in LEAST.items() if counts.get(kind, 0) < least} == set(), counts
    assert sum(counts.values()) >= 500
