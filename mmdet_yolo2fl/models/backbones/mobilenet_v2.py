"""MMDetection's MobileNetV2 for grey images."""

from mmcv.cnn import ConvModule
from mmdet.models.backbones import MobileNetV2
from mmdet.registry import MODELS


@MODELS.register_module()
class GreyMobileNetV2(MobileNetV2):
    """MMDetection's ``MobileNetV2``, whose first convolution takes three channels, for one.

    Args:
        *args, **kwargs: As of ``MobileNetV2``.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.conv1 = ConvModule(
            1,
            self.conv1.out_channels,
            3,
            stride=2,
            padding=1,
            conv_cfg=self.conv_cfg,
            norm_cfg=self.norm_cfg,
            act_cfg=self.act_cfg,
        )
