"""What several test modules share."""

import shutil

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from yapf.yapflib import yapf_api

from mmdet_yolo2fl.command_line import avoid_mps

# MMEngine lays out a config by yapf whenever it logs or saves it, a second or more each time. How
# it looks is nothing of ours; what tests start as a process of its own has it laid out.
yapf_api.FormatCode = lambda text, **_: (text, False)
avoid_mps()  # as the tools do


@pytest.fixture(autouse=True)
def _few_threads():
    """Tests run beside other work; and one thread sums in one order."""
    torch.set_num_threads(1)


def pytest_runtest_setup(item):
    if item.get_closest_marker('cuda') and not torch.cuda.is_available():
        pytest.skip('needs a CUDA device')


@pytest.fixture
def tab():
    """An empty page of a headless browser, which has two minutes for whatever is asked of it."""
    sync_api = pytest.importorskip('playwright.sync_api', reason='needs playwright')
    chromium = next(filter(None, map(shutil.which, ('chromium', 'google-chrome', 'chrome'))), None)
    if chromium is None:
        pytest.skip('needs Chromium or Chrome')
    arguments = ['--no-sandbox', '--disable-gpu', '--disable-background-networking']
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=arguments, timeout=120_000
        )
        page = browser.new_page()
        page.set_default_timeout(120_000)
        yield page
        browser.close()


def instances(bboxes, labels=None):
    """Ground truths of one image from lists."""
    bboxes = torch.tensor(bboxes, dtype=torch.float32).reshape(-1, 4)
    labels = torch.zeros(len(bboxes)) if labels is None else torch.tensor(labels)
    return InstanceData(bboxes=bboxes, labels=labels.long())


def sample(size, bboxes=(), labels=(), ignored=()):
    """A data sample of an ``(H, W)`` image as MMDetection's pipelines pack it."""
    data_sample = DetDataSample(
        metainfo=dict(
            img_shape=size, ori_shape=size, batch_input_shape=size, scale_factor=(1.0, 1.0)
        )
    )
    data_sample.gt_instances = instances(list(bboxes), list(labels))
    data_sample.ignored_instances = instances(list(ignored))
    return data_sample
