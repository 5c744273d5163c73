from .balanced_focal_loss import BalancedFocalLoss, balanced_focal_loss

__all__ = ['BalancedFocalLoss', 'balanced_focal_loss']
