"""Options are compared with the annotations of the constructor, as far as configs have types."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope, Registry

from mmdet_yolo2fl.option_check import check_options_of, fits


@pytest.mark.parametrize(
    'hint, good, bad',
    [
        (int, [0, -3], [1.0, '1', None, True, [1]]),
        (float, [0, 0.5, float('inf')], ['1', None, False, float('nan'), [0.5]]),
        (bool, [True, False, 0, 1], [2, 'yes', None]),
        (str, [''], [0, None, ['a']]),
        (dict, [{}, ConfigDict(a=1)], [[], 'a', None]),
        (float | None, [None, 1], ['', {}]),
        (int | Sequence[int], [3, [1, 2], (1,), np.array([1, 2])], [[1, 'a'], 'ab', 1.5]),
        (float | Sequence[float], [torch.tensor([0.5, 1.0]), [1, 2.5]], [{}, [None]]),
        (tuple[int, int], [(1, 2), [1, 2]], [(1,), (1, 2, 3), (1, 'a'), 3]),
        (tuple[int, ...], [(), (1, 2, 3)], [('a',), 2]),
        (dict | list | None, [[dict(a=1)], None], ['a', 3]),
        ('a forward reference', [len, 1j], []),
    ],
    ids=str,
)
def test_fits(hint, good, bad):
    assert all(fits(value, hint) for value in good)
    assert not any(fits(value, hint) for value in bad)


def test_messages_name_the_part_the_option_and_the_value():
    registry = Registry('parts', scope='tests')

    class Parent:
        def __init__(self, size: int, scale: float = 1.0) -> None:
            self.size, self.scale = size, scale

    class Child(Parent):
        def __init__(self, *args, name: str = 'a', norm_cfg: dict | None = None, **kwargs) -> None:
            super().__init__(*args, **kwargs)

    Parent.__module__ = Child.__module__ = 'mmdet_yolo2fl.part'
    registry.register_module(module=Child)
    for _ in range(2):  # twice is as once
        check_options_of(registry)
    assert Child(3, scale=2).scale == 2
    for call, kind, message in (
        (lambda: Child('3'), TypeError, "Child: size must be int, got '3'"),
        (lambda: Child(3, name=4), TypeError, 'Child: name must be str, got 4'),
        (lambda: Child(3, scale=float('nan')), ValueError, 'Child: scale is NaN'),
        (lambda: Child(3, colour=1), TypeError, "Child: .*'colour'"),
        (lambda: Child(3, norm_cfg=dict(type='None')), ValueError, 'norm_cfg names no layer'),
        (lambda: Child(3, norm_cfg={}), ValueError, 'norm_cfg names no layer'),
    ):
        with pytest.raises(kind, match=message):
            call()
    assert Child(3, norm_cfg=dict(type='BN'))
    # A layer of MMDetection's own registry, where its scope is that of the run.
    with DefaultScope.overwrite_default_scope('mmdet'):
        assert Child(3, norm_cfg=dict(type='NormedConv2d'))
