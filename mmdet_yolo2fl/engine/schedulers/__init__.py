from .burn_in_lr import BurnInLR

__all__ = ['BurnInLR']
