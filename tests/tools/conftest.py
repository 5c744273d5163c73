import importlib.util
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tool(monkeypatch):
    """The ``main`` of a tool, to be run in this process, which its settings do not outlive."""
    monkeypatch.setenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', '0')
    monkeypatch.setenv('LOCAL_RANK', '0')

    def load(name):
        spec = importlib.util.spec_from_file_location(f'tool_{name}', ROOT / f'tools/{name}.py')
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.main

    return load


@pytest.fixture
def refused(capsys):
    """Runs a ``main`` that must end with a usage error; returns its last line."""

    def run(main, *args):
        with pytest.raises(SystemExit) as stop:
            main([str(arg) for arg in args])
        assert stop.value.code == 2
        message = capsys.readouterr().err
        assert 'Traceback' not in message
        return message.strip().splitlines()[-1]

    return run


@pytest.fixture
def data_root(tmp_path):
    """Four images with a square each, as train.json and valid.json of a data set."""
    root = tmp_path / 'data'
    root.mkdir()
    images, annotations = [], []
    for number in range(1, 5):
        image = np.full((60, 90, 3), 90, np.uint8)
        image[10:40, 20 + number : 50 + number] = (250, 40 * number, 0)
        cv2.imwrite(str(root / f'{number}.png'), image)
        images.append(dict(id=number, file_name=f'{number}.png', width=90, height=60))
        annotations.append(
            dict(
                id=number,
                image_id=number,
                category_id=1 + number % 2,
                bbox=[20 + number, 10, 30, 30],
                area=900,
                iscrowd=0,
            )
        )
    content = dict(
        images=images,
        annotations=annotations,
        categories=[dict(id=1, name='red'), dict(id=2, name='blue')],
    )
    for name in ('train', 'valid'):
        (root / f'{name}.json').write_text(json.dumps(content))
    return root
