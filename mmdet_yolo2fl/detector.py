"""A detector with the weights of a checkpoint, and not one weight less."""

from copy import deepcopy
from pathlib import Path

import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import nn

from .checkpoints import load_verified, restore_seen, verify_checkpoint


def load_detector(config: Config, checkpoint: str | Path) -> tuple[nn.Module, dict]:
    """Build a config's detector and fill it from a checkpoint, key by key.

    Returns:
        tuple[nn.Module, dict]: The detector in evaluation mode, and the checkpoint's ``meta``.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        ValueError: If it is unsafe or damaged, or does not fit the config.
    """
    path = verify_checkpoint(checkpoint)
    content = load_verified(path)
    restore_seen(content)
    state = content.get('state_dict', content)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(config.model)
    try:
        missing, unexpected = model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        # The first line says only that there are errors, the others name a weight each.
        _, first, *others = map(str.strip, str(error).splitlines())
        more = f' (and {len(others)} more)' if others else ''
        raise ValueError(f'{path} does not fit {config.filename}: {first}{more}') from error
    missing = [key for key in missing if not key.endswith('num_batches_tracked')]
    missing, unexpected = map(_needed_to_predict, (missing, unexpected))
    if missing or unexpected:
        raise ValueError(
            f'{path} does not fit {config.filename}: it lacks {missing[:3]}, and has '
            f'{unexpected[:3]} that the model has not'
        )
    return model.eval(), content.get('meta', {})


def _needed_to_predict(keys: list[str]) -> list[str]:
    """Without the state of losses, such as the gamma of an adaptive one."""
    return [key for key in keys if not any(part.startswith('loss') for part in key.split('.'))]


def check_fit(model: nn.Module, checkpoint: str | Path, whole: bool = True) -> None:
    """Refuse a checkpoint of another detector, of which MMEngine only warns.

    Args:
        model (nn.Module | dict): The detector, in a wrapper or not; or its config, as long as a
            ``FlexibleRunner`` has not built it.
        checkpoint (str | Path): A verified file.
        whole (bool): Every weight must be in it, as for a test or a resumed training; else at
            least one, as for a start from another data set. Defaults to True.

    Raises:
        ValueError: If it does not fit; names a weight and its shapes.
    """
    if not isinstance(model, nn.Module):
        with DefaultScope.overwrite_default_scope('mmdet'):
            model = MODELS.build(deepcopy(model))
    content = load_verified(checkpoint)
    check_state_fits(model, content.get('state_dict', content), str(checkpoint), whole)


def check_state_fits(model: nn.Module, state: dict, name: str, whole: bool = True) -> None:
    """The same of weights that are loaded already; ``name`` is for the error."""
    while hasattr(model, 'module'):  # of distributed training, of test-time augmentation
        model = model.module
    shapes = {
        key.removeprefix('module.'): tuple(value.shape)
        for key, value in state.items()
        if isinstance(value, torch.Tensor)
    }
    weights = {name: tuple(weight.shape) for name, weight in model.named_parameters()}
    other = [key for key in _needed_to_predict(list(weights)) if shapes.get(key) != weights[key]]
    if other and (whole or len(other) == len(weights)) and not _loads(model, state, whole):
        first = other[0]
        raise ValueError(
            f'{name} does not fit the config: it has {shapes.get(first, "nothing")} for '
            f'{first} {weights[first]} (and {len(other) - 1} more of {len(weights)})'
        )


def _loads(model: nn.Module, state: dict, whole: bool) -> bool:
    """Whether modules that rename old weights while they load, as those of FCOS do, find them."""
    weights = _needed_to_predict([name for name, _ in model.named_parameters()])
    try:
        missing, _ = deepcopy(model).load_state_dict(state, strict=False)
    except RuntimeError:  # of another shape
        return False
    lost = set(missing) & set(weights)
    return not lost if whole else len(lost) < len(weights)
