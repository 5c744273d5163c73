"""The metrics that a config names, and how it names things."""

from collections.abc import Mapping


def evaluators(config: Mapping, *splits: str) -> list[dict]:
    """Configs of the metrics of one or several of 'val' and 'test', one, many or none written."""
    found = []
    for split in splits:
        value = config.get(f'{split}_evaluator') or []
        found += value if isinstance(value, (list, tuple)) else [value]
    return found


def type_name(part: Mapping) -> str:
    """The type of a part without its scope; in configs of pure Python types are classes."""
    kind = part.get('type')
    return getattr(kind, '__name__', str(kind)).split('.')[-1]


def is_coco(evaluator: Mapping) -> bool:
    """Whether a metric is MMDetection's ``CocoMetric``."""
    return type_name(evaluator) == 'CocoMetric'


def coco_files(config: Mapping, split: str) -> dict[str, bool]:
    """The annotation files that metrics read by pycocotools, and whether class by class."""
    found: dict[str, bool] = {}
    for one in filter(is_coco, evaluators(config, split)):
        if file := one.get('ann_file'):
            found[file] = found.get(file, False) or bool(one.get('classwise'))
    return found
