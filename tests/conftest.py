"""What several test modules share."""

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData


@pytest.fixture(autouse=True)
def _few_threads():
    """Tests run beside other work; and one thread sums in one order."""
    torch.set_num_threads(1)


def pytest_runtest_setup(item):
    if item.get_closest_marker('cuda') and not torch.cuda.is_available():
        pytest.skip('needs a CUDA device')


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
