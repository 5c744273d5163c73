"""The metrics that a config names."""

from collections.abc import Mapping


def evaluators(config: Mapping, *splits: str) -> list[dict]:
    """Configs of the metrics of one or several of 'val' and 'test', one, many or none written."""
    found = []
    for split in splits:
        value = config.get(f'{split}_evaluator') or []
        found += value if isinstance(value, (list, tuple)) else [value]
    return found


def coco_files(config: Mapping, split: str) -> list[str]:
    """The annotation files that metrics read by pycocotools."""
    metrics = [one for one in evaluators(config, split) if one.get('type') == 'CocoMetric']
    return [one['ann_file'] for one in metrics if one.get('ann_file')]
