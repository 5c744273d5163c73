"""The two backbones of YOLOv2: Darknet-19 and the one of Tiny YOLOv2."""

from collections.abc import Sequence

from mmcv.cnn import ConvModule
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm
from torch import Tensor, nn

# Darknet's average keeps 99 % of the running statistics; PyTorch names the other 1 %.
NORM_CFG = dict(type='BN', momentum=0.01, eps=1e-5)
ACT_CFG = dict(type='LeakyReLU', negative_slope=0.1)


class _PlainDarknet(BaseModule):
    """A chain of stages, each a pooling layer (or none) and some convolutions.

    ``arch`` holds one entry for each stage: the pooling stride before it (0 for no pooling)
    and its convolutions as ``(kernel size, channels)``.
    """

    arch: tuple

    def __init__(
        self,
        in_channels: int = 3,
        widen_factor: float = 1.0,
        channels: Sequence[int] | None = None,
        out_indices: Sequence[int] = (),
        frozen_stages: int = -1,
        norm_eval: bool = False,
        ceil_mode: bool = False,
        conv_cfg: dict | None = None,
        norm_cfg: dict | None = NORM_CFG,
        act_cfg: dict | None = ACT_CFG,
        init_cfg: dict | list | None = None,
    ) -> None:
        name, last = type(self).__name__, len(self.arch) - 1
        if init_cfg is None:
            init_cfg = [
                dict(type='Kaiming', layer='Conv2d', a=0.1, mode='fan_in'),
                dict(type='Constant', val=1, layer=['_BatchNorm', 'GroupNorm']),
            ]
        super().__init__(init_cfg)
        if in_channels < 1:
            raise ValueError(f'{name}: in_channels must be at least 1, got {in_channels}')
        if not 0 < widen_factor < float('inf'):
            raise ValueError(f'{name}: widen_factor must be positive, got {widen_factor}')
        if not out_indices or not all(0 <= i <= last for i in out_indices):
            raise ValueError(f'{name}: out_indices must lie in 0..{last}, got {out_indices}')
        if not -1 <= frozen_stages <= last + 1:
            raise ValueError(f'{name}: frozen_stages must lie in -1..{last + 1}')

        # What nobody asks for is not built: it would cost time, and get no gradient.
        stages = self.arch[: max(out_indices) + 1]
        number = sum(len(convs) for _, convs in stages)
        if channels is None:
            channels = self.default_channels(widen_factor)[:number]
        if len(channels) != number or not all(isinstance(c, int) and c > 0 for c in channels):
            raise ValueError(f'{name}: channels must be {number} positive integers, got {channels}')

        self.out_indices = tuple(out_indices)
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.out_channels = []
        self.stages = nn.ModuleList()
        filters = iter(channels)
        for pool_stride, convs in stages:
            layers = _max_pool(pool_stride, ceil_mode)
            for kernel_size, _ in convs:
                out_channels = next(filters)
                layers.append(
                    ConvModule(
                        in_channels,
                        out_channels,
                        kernel_size,
                        padding=kernel_size // 2,
                        conv_cfg=conv_cfg,
                        norm_cfg=norm_cfg,
                        act_cfg=act_cfg,
                    )
                )
                in_channels = out_channels
            self.stages.append(nn.Sequential(*layers))
            self.out_channels.append(in_channels)
        self._freeze_stages()

    @classmethod
    def default_channels(cls, widen_factor: float = 1.0) -> list[int]:
        """Filters of every convolution, from the image on."""
        convs = [conv for _, convs in cls.arch for conv in convs]
        return [max(1, round(filters * widen_factor)) for _, filters in convs]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Images ``(N, in_channels, H, W)`` to the feature maps of ``out_indices``."""
        outs = []
        for i, stage in enumerate(self.stages):
            x = stage(x)
            if i in self.out_indices:
                outs.append(x)
        return tuple(outs)

    def train(self, mode: bool = True):
        super().train(mode)
        self._freeze_stages()
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def _freeze_stages(self) -> None:
        for stage in self.stages[: max(self.frozen_stages, 0)]:
            stage.eval()
            stage.requires_grad_(False)


def _max_pool(stride: int, ceil_mode: bool) -> list[nn.Module]:
    if stride == 0:
        return []
    if stride == 1:
        # Darknet keeps the size by padding on the right and bottom only. Repeating the border
        # cannot change a maximum, and unlike -inf it survives export and quantization.
        return [nn.ReplicationPad2d((0, 1, 0, 1)), nn.MaxPool2d(2, 1)]
    return [nn.MaxPool2d(2, stride, ceil_mode=ceil_mode)]


@MODELS.register_module()
class Darknet19(_PlainDarknet):
    """Darknet-19 without its classifier (YOLO9000, section 3, table 6).

    Stage i has stride ``2**i``; at ``widen_factor=1`` the stages end with 32, 64, 128, 256, 512
    and 1024 channels.

    Args:
        in_channels (int): Channels of the image. Defaults to 3.
        widen_factor (float): Multiplies every number of channels. Defaults to 1.0.
        channels (Sequence[int], optional): The filters of every convolution that is built (18; 7
            for :class:`DarknetTiny`), in place of ``widen_factor``: for networks of other shapes.
        out_indices (Sequence[int]): Stages to return, of 0..5; those behind them are left out.
            Defaults to (4, 5): what :class:`YOLOV2Neck` takes. With (3, 4) and ``stride=16`` of
            the anchors a cell has 16 pixels.
        frozen_stages (int): How many stages, counted from the image, stay as they are.
            -1 and 0 freeze none. Defaults to -1.
        norm_eval (bool): Keep batch normalization in evaluation mode. Defaults to False, unlike
            MMDetection's ``Darknet``: YOLOv2 trains from scratch.
        ceil_mode (bool): Pool the last row and column of a map of odd size too, as Darknet does:
            240 rows become 8, not 7. Without effect where sizes are multiples of 32. Defaults to
            False.
        conv_cfg, norm_cfg, act_cfg (dict): MMCV's layer configs. Default to Darknet's own: batch
            normalization with momentum 0.01, leaky ReLU of slope 0.1.
        init_cfg (dict | list, optional): MMEngine's initialization config.

    Raises:
        ValueError: If a stage index or ``widen_factor`` is out of range.
    """

    arch = (
        (0, ((3, 32),)),
        (2, ((3, 64),)),
        (2, ((3, 128), (1, 64), (3, 128))),
        (2, ((3, 256), (1, 128), (3, 256))),
        (2, ((3, 512), (1, 256), (3, 512), (1, 256), (3, 512))),
        (2, ((3, 1024), (1, 512), (3, 1024), (1, 512), (3, 1024))),
    )

    def __init__(self, *args, out_indices: Sequence[int] = (4, 5), **kwargs) -> None:
        super().__init__(*args, out_indices=out_indices, **kwargs)


@MODELS.register_module()
class DarknetTiny(_PlainDarknet):
    """The backbone of Tiny YOLOv2 (Darknet's ``yolov2-tiny.cfg``).

    Stages 0..5 have strides 1, 2, 4, 8, 16, 32; stage 6 keeps stride 32 behind a pooling layer
    of stride 1. At ``widen_factor=1`` they end with 16, 32, 64, 128, 256, 512, 1024 channels.
    The last 3x3 convolution of the cfg (512 filters for COCO, 1024 for VOC) belongs to the head
    (``feat_channels``).

    Args:
        out_indices (Sequence[int]): Stages to return, of 0..6. Defaults to (6,).
        *args, **kwargs: As for :class:`Darknet19`.

    Raises:
        ValueError: If a stage index or ``widen_factor`` is out of range.
    """

    arch = (
        (0, ((3, 16),)),
        (2, ((3, 32),)),
        (2, ((3, 64),)),
        (2, ((3, 128),)),
        (2, ((3, 256),)),
        (2, ((3, 512),)),
        (1, ((3, 1024),)),
    )

    def __init__(self, *args, out_indices: Sequence[int] = (6,), **kwargs) -> None:
        super().__init__(*args, out_indices=out_indices, **kwargs)
