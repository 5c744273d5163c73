"""The memory layout in which convolutions run fastest."""

import torch
from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.runner import Runner


@HOOKS.register_module()
class ChannelsLastHook(Hook):
    """Train and evaluate in the channels-last (NHWC) memory format.

    Converts the model's convolution weights; PyTorch then computes every activation from the
    first convolution on in that format. Shapes and results stay what they are, and so do
    checkpoints: weights from and for either format load into the other.

    The weights are converted after they are loaded and just before the loop starts, because
    the gloo and NCCL broadcasts of MMEngine's start-up take contiguous tensors.
    """

    def before_train(self, runner: Runner) -> None:
        """Convert the weights before training."""
        runner.model.to(memory_format=torch.channels_last)

    before_val = before_train
    before_test = before_train
