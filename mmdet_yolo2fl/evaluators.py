"""The metrics that a config names."""

from collections.abc import Mapping

from .config_parts import as_list, type_name


def evaluators(config: Mapping, *splits: str) -> list[dict]:
    """Configs of the metrics of one or several of 'val' and 'test', one, many or none written."""
    return [one for split in splits for one in as_list(config.get(f'{split}_evaluator'))]


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
