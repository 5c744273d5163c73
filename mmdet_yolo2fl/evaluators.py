"""The metrics that a config names."""

from collections.abc import Mapping


def evaluators(config: Mapping, *splits: str) -> list[dict]:
    """Configs of the metrics of one or several of 'val' and 'test', one, many or none written."""
    found = []
    for split in splits:
        value = config.get(f'{split}_evaluator') or []
        found += value if isinstance(value, (list, tuple)) else [value]
    return found


def is_coco(evaluator: Mapping) -> bool:
    """Whether a metric is MMDetection's ``CocoMetric``; in configs of pure Python types are
    classes."""
    kind = evaluator.get('type')
    return getattr(kind, '__name__', str(kind)).split('.')[-1] == 'CocoMetric'


def coco_files(config: Mapping, split: str) -> list[str]:
    """The annotation files that metrics read by pycocotools."""
    metrics = filter(is_coco, evaluators(config, split))
    return [one['ann_file'] for one in metrics if one.get('ann_file')]
