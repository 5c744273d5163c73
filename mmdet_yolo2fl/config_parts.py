"""How to read the parts of a config."""

import inspect
from collections.abc import Iterator, Mapping, Sequence

from mmengine.config import ConfigDict
from mmengine.runner import Runner

# What a config says that somebody reads: MMEngine's runner, MMDetection's tools, these.
READ = {*inspect.signature(Runner.__init__).parameters} - {'self', 'cfg'}
READ |= {'auto_scale_lr', 'tta_model', 'tta_pipeline', 'find_unused_parameters', 'sync_bn'}
READ |= {'model_wrapper_cfg', 'compile', 'runner_type', 'custom_imports', 'darknet'}
READ |= {'activation_checkpointing', 'efficient_conv_bn_eval'}


def as_list(value) -> list:
    """What a config writes as one thing, as several, or not at all."""
    if not value:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def type_name(part: Mapping) -> str:
    """The type of a part without its scope; in configs of pure Python types are classes."""
    kind = part.get('type')
    return getattr(kind, '__name__', str(kind)).split('.')[-1]


def begin_anew(config: ConfigDict) -> None:
    """Of a config that a resumed training has dumped: neither resume nor load what that resumed."""
    if config.get('resume'):
        config.resume, config.load_from = False, None


def leaf_datasets(
    dataset: ConfigDict, pipeline: Sequence[dict] = ()
) -> Iterator[tuple[ConfigDict, list[dict]]]:
    """The data sets inside the wrappers, each with all the steps that its images go through.

    Args:
        dataset (ConfigDict): Wrapped or not.
        pipeline (Sequence[dict]): Steps of what is wrapped around it.
    """
    steps = [*(dataset.get('pipeline') or ()), *pipeline]
    inner = dataset.get('datasets') or as_list(dataset.get('dataset'))
    for part in inner:
        yield from leaf_datasets(part, steps)
    if not inner:
        yield dataset, steps


def leaves(dataset: ConfigDict) -> list[ConfigDict]:
    """The data sets inside the wrappers."""
    return [leaf for leaf, _ in leaf_datasets(dataset)]


def unwrapped(dataset: ConfigDict) -> ConfigDict:
    """The first of them, by whose pipeline a detector predicts.

    Raises:
        ValueError: If they have several pipelines.
    """
    first, *others = leaves(dataset)
    if any(other.get('pipeline') != first.get('pipeline') for other in others):
        raise ValueError(
            'the parts of the test set have several pipelines, of which none is that of the '
            'detector: give them one'
        )
    return first
