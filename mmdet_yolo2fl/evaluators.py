"""The metrics that a config names."""

from collections.abc import Mapping


def evaluators(config: Mapping, *splits: str) -> list[dict]:
    """Configs of the metrics of one or several of 'val' and 'test', one, many or none written."""
    found = []
    for split in splits:
        value = config.get(f'{split}_evaluator') or []
        found += value if isinstance(value, (list, tuple)) else [value]
    return found


def reads_coco_file(config: Mapping, split: str) -> bool:
    """Whether a ``CocoMetric`` reads an annotation file of its own, by pycocotools."""
    return any(
        one.get('type') == 'CocoMetric' and one.get('ann_file') for one in evaluators(config, split)
    )
