from .adaptive_focal_loss import AutomatedFocalLoss, EqualizedFocalLoss
from .balanced_focal_loss import BalancedFocalLoss, balanced_focal_loss

__all__ = ['AutomatedFocalLoss', 'BalancedFocalLoss', 'EqualizedFocalLoss', 'balanced_focal_loss']
