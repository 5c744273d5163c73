"""SSD with its own loss (Liu et al., arXiv:1512.02325), able to predict."""

from mmdet.models.dense_heads import SSDHead
from mmdet.registry import MODELS


@MODELS.register_module()
class MinedSSDHead(SSDHead):
    """MMDetection's ``SSDHead``, of which 3.3.0 and OneDL's 3.5.1 can only train.

    Their common prediction asks every head's ``loss_cls`` for the number of its channels, and
    this head, whose loss is a function of its own with hard negatives mined, has none.
    """

    loss_cls = None
