import importlib.util

import cv2
import numpy as np
import torch

from tests.tools.conftest import ROOT


def test_curves_equal_the_equations():
    spec = importlib.util.spec_from_file_location('plot', ROOT / 'tools/plot_focal_loss.py')
    plot = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(plot)
    z = torch.linspace(-3, 3, 7, dtype=torch.float64)
    for target in (1.0, 0.0):
        loss, slope = plot.curves(2.0, 0.25, target, z)
        zt = (z if target else -z).numpy()
        pt, at = 1 / (1 + np.exp(-zt)), 0.25 if target else 0.75
        np.testing.assert_allclose(loss, -at * (1 - pt) ** 2 * np.log(pt), rtol=1e-9)
        by_zt = at * (1 - pt) ** 2 * (2 * pt * np.log(pt) + pt - 1)
        np.testing.assert_allclose(slope, by_zt if target else -by_zt, rtol=1e-9)


def test_writes_both_pictures(tool, tmp_path):
    tool('plot_focal_loss')(['--out', str(tmp_path / 'p'), '--gammas', '0', '2'])
    for name in ('gamma', 'family'):
        image = cv2.imread(str(tmp_path / f'p/focal_loss_{name}.png'))
        assert image.shape[1] > 800 and image.std() > 10


def test_usage_errors(tool, refused):
    assert '--gammas' in refused(tool('plot_focal_loss'), '--gammas', '-1')
