"""YOLOv2's pass-through: fine features rearranged and put before the coarse ones."""

from collections.abc import Sequence

import torch
from mmcv.cnn import ConvModule
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn

from ..backbones.darknet import ACT_CFG, NORM_CFG


def darknet_reorg(x: Tensor) -> Tensor:
    """Darknet's ``[reorg] stride=2``: ``(N, C, H, W)`` to ``(N, 4C, H/2, W/2)``.

    It is not a space-to-depth: Darknet reads the map as one with C/4 channels, twice the height and
    twice the width before it gathers, so neighbouring pixels of one channel do not stay together.
    """
    n, c, h, w = x.shape
    x = x.reshape(n, c // 4, h, 2, w, 2).permute(0, 3, 5, 1, 2, 4)
    return x.reshape(n, 4 * c, h // 2, w // 2)


def offset_major_reorg(x: Tensor) -> Tensor:
    """Space-to-depth with the channels ordered (row, column, channel): ``[reorg3d]``'s order."""
    n, c, h, w = x.shape
    x = x.reshape(n, c, h // 2, 2, w // 2, 2).permute(0, 3, 5, 1, 2, 4)
    return x.reshape(n, 4 * c, h // 2, w // 2)


def channel_major_reorg(x: Tensor) -> Tensor:
    """Space-to-depth with the channels ordered (channel, row, column): PyTorch's order."""
    return nn.functional.pixel_unshuffle(x, 2)


REORGS = dict(
    darknet=darknet_reorg, offset_major=offset_major_reorg, channel_major=channel_major_reorg
)


@MODELS.register_module()
class YOLOV2Neck(BaseModule):
    """Joins the last map and one twice as fine: strides 32 and 16, or 16 and 8.

    YOLO9000, section 2, "Fine-Grained Features".
    The coarse map goes through ``num_convs`` 3x3 convolutions, the fine one through a 1x1
    convolution and the rearrangement; the result is their concatenation, fine channels first,
    as in Darknet's ``yolov2.cfg``.

    Args:
        in_channels (Sequence[int]): Channels of the fine and of the coarse map, such as
            (512, 1024).
        out_channels (int | Sequence[int]): Channels of the coarse branch, or one number for each
            of its convolutions. Defaults to 1024.
        num_convs (int): 3x3 convolutions on the coarse map. Defaults to 2.
        passthrough_channels (int | None): Filters of the 1x1 convolution on the fine map; None
            leaves it out, as the paper and ``yolo-voc.2.0.cfg`` do. Defaults to 64.
        reorg (str): Order of the rearranged channels: 'darknet' (what ``[reorg]`` computes),
            'offset_major' (``[reorg3d]``) or 'channel_major' (``torch.pixel_unshuffle``).
            Weights fit only the order that they were trained with. Defaults to 'darknet'.
        conv_cfg, norm_cfg, act_cfg (dict): MMCV's layer configs.
        init_cfg (dict | list, optional): MMEngine's initialization config.

    Attributes:
        num_out_channels (int): Channels of the result, for the head's ``in_channels``: four
            times those of the fine branch, plus those of the coarse one.

    Raises:
        ValueError: If the arguments or the sizes of the two maps do not fit.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int | Sequence[int] = 1024,
        num_convs: int = 2,
        passthrough_channels: int | None = 64,
        reorg: str = 'darknet',
        conv_cfg: dict | None = None,
        norm_cfg: dict | None = NORM_CFG,
        act_cfg: dict | None = ACT_CFG,
        init_cfg: dict | list | None = None,
    ) -> None:
        if init_cfg is None:
            init_cfg = dict(type='Kaiming', layer='Conv2d', a=0.1, mode='fan_in')
        super().__init__(init_cfg)
        if len(in_channels) != 2:
            raise ValueError(f'YOLOV2Neck: in_channels must be (fine, coarse), got {in_channels}')
        if reorg not in REORGS:
            raise ValueError(f'YOLOV2Neck: reorg must be one of {list(REORGS)}, got {reorg!r}')
        fine_channels, coarse_channels = in_channels
        layer_cfg = dict(conv_cfg=conv_cfg, norm_cfg=norm_cfg, act_cfg=act_cfg)

        if isinstance(out_channels, int):
            out_channels = [out_channels] * num_convs
        if len(out_channels) != num_convs:
            raise ValueError(
                f'YOLOV2Neck: out_channels must be one number or {num_convs}, got {out_channels}'
            )

        widths = [
            *in_channels,
            *out_channels,
            1 if passthrough_channels is None else passthrough_channels,
        ]
        if min(widths) < 1:
            raise ValueError(f'YOLOV2Neck: numbers of channels must be at least 1, got {widths}')

        self.coarse = nn.Sequential()
        for filters in out_channels:
            self.coarse.append(ConvModule(coarse_channels, filters, 3, padding=1, **layer_cfg))
            coarse_channels = filters
        self.fine = nn.Identity()
        if passthrough_channels is not None:
            self.fine = ConvModule(fine_channels, passthrough_channels, 1, **layer_cfg)
            fine_channels = passthrough_channels
        if reorg == 'darknet' and fine_channels % 4:
            raise ValueError(
                "YOLOV2Neck: reorg='darknet' needs a multiple of 4 channels on the fine map, "
                f'got {fine_channels}; change passthrough_channels or reorg'
            )
        self.reorg = REORGS[reorg]
        self.num_out_channels = 4 * fine_channels + coarse_channels

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor]:
        """Join the last two of ``feats``.

        Args:
            feats (Sequence[Tensor]): The last two are ``(N, C1, 2H, 2W)`` and ``(N, C2, H, W)``.

        Returns:
            tuple[Tensor]: One map ``(N, num_out_channels, H, W)``.
        """
        if len(feats) < 2:
            raise ValueError(f'YOLOV2Neck joins two feature maps, got {len(feats)}')
        fine, coarse = feats[-2:]
        h, w = coarse.shape[-2:]
        if fine.shape[-2:] != (2 * h, 2 * w):
            raise ValueError(
                'YOLOV2Neck: the fine map must be twice as large as the coarse one, got '
                f'{tuple(fine.shape[-2:])} and {h, w}: pad the images to a multiple of the '
                "stride (data_preprocessor's pad_size_divisor) and check the out_indices"
            )
        return (torch.cat([self.reorg(self.fine(fine)), self.coarse(coarse)], dim=1),)
