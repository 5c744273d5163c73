"""Arguments that are wrong, for every tool: one line of the usage, and nothing is written."""

import runpy
import sys
from pathlib import Path

import pytest

from .reaction import refuse

ROOT = Path(__file__).parents[2]
ALL_TOOLS = sorted(path.stem for path in (ROOT / 'tools').glob('*.py'))
# What a tool takes first: a config, a checkpoint; {x} stand for good files of the test.
CONFIG = '{config}'
WITH_CHECKPOINT = [CONFIG, '{checkpoint}']
GOOD = {
    'train': [CONFIG],
    'test': WITH_CHECKPOINT,
    'predict': [*WITH_CHECKPOINT, '{data}'],
    'export': WITH_CHECKPOINT,
    'mmdet2darknet': [*WITH_CHECKPOINT, '{out}'],
    'compare_opencv': WITH_CHECKPOINT,
    'cluster_anchors': [CONFIG],
    'imbalance_report': [CONFIG],
    'tune_focal': [CONFIG],
    'benchmark': [CONFIG],
    'benchmark_analysis': [CONFIG],
    'coco2darknet': ['{data}/train.json', '{data}', '{out}'],
    'darknet2coco': ['{data}/obj.data', '{out}'],
    'darknet2mmdet': ['{data}/a.cfg', '{data}/a.weights', '{out}'],
    'study': ['{study}'],
    'plot_study': ['{data}/table.csv'],
    'compare_studies': ['{data}/comparisons.csv'],
    'compare_focal_loss': ['{data}'],
}
# Wrong values behind good arguments.
WRONG = {
    'train': [
        ['--launcher', 'mpirun'], ['--resume', 'none.pth'], ['--resume', '{data}'],
        ['--resume', '{config}'], ['--local_rank', 'x'], ['--cfg-options'], ['--work-dir'],
        ['--work-dir', '{config}'], ['--cfg-options', 'a'], ['--amp', 'yes'],
    ],
    'test': [
        ['--out', 'a.json'], ['--out', 'pkl'], ['--wait-time', 'long'], ['--launcher', 'x'],
        ['--tta', '1'], ['--cfg-options', '=1'],
    ],
    'predict': [
        ['--score-thr', '-0.1'], ['--score-thr', '1.1'], ['--score-thr', 'nan'],
        ['--score-thr', 'high'], ['--batch-size', '0'], ['--batch-size', '-4'],
        ['--batch-size', '1.5'], ['--every', '0'], ['--max-frames', '-1'], ['--device', 'none'],
        ['--annotations', 'none.json'], ['--annotations', '{data}'], ['--show', '--no-draw'],
        ['--out', '{config}'], ['none.jpg'], ['{config}'], ['{empty}'], ['*.nothing'],
    ],
    'export': [
        ['--formats', 'tflite'], ['--formats'], ['--size', '100', '64'], ['--size', '0', '0'],
        ['--size', '-32', '32'], ['--size', '64'], ['--num-images', '0'], ['--num-images', '-1'],
        ['--images', 'none.jpg'], ['--images', '{empty}'], ['--name', '../x'], ['--name', '/x'],
        ['--out', '{config}'],
    ],
    'mmdet2darknet': [
        ['--size', '100'], ['--size', '-32'], ['--size', '1', '2', '3'], ['--size', 'large'],
        ['--for-opencv', '2'], ['--for-opencv', 'nan'], ['--for-opencv', '-1'],
    ],
    'compare_opencv': [
        ['--images', '0'], ['--images', 'x'], ['--score-thr', '2'], ['--score-thr', 'nan'],
    ],
    'cluster_anchors': [
        ['--num-anchors', '0'], ['--num-anchors', '-1'], ['--num-anchors', '99'],
        ['--input-size', '0'], ['--input-size', '1', '2', '3'], ['--restarts', '0'],
        ['--restarts', 'x'], ['--seed', '-1'], ['--cfg-options', 'a'],
    ],
    'imbalance_report': [
        ['--beta', '1'], ['--beta', '-1'], ['--beta', 'nan'], ['--alpha', '0'], ['--alpha', 'nan'],
        ['--alpha', '2'],
    ],
    'tune_focal': [
        ['--trials', '0'], ['--trials', 'x'], ['--startup', '0'], ['--search', 'delta'],
        ['--loss', 'loss_none'], ['--storage', 'none://x'], ['--seed', 'x'],
    ],
    'benchmark': [
        ['--modes', 'int4'], ['--batch', '0'], ['--boxes', '-1'], ['--repeat', '0'],
        ['--names', 'a', 'b'], ['--checkpoints', 'a', 'b'], ['--study', 'none.csv'],
        ['--size', '32'], ['--size', 'x', 'y'],
    ],
    'coco2darknet': [['--split', 'test'], ['--split']],
    'darknet2coco': [['--splits', 'test'], ['--image-root', '{empty}']],
    'darknet2mmdet': [
        ['--resize', 'crop'], ['--interpolation', 'cubic'], ['--names', 'none.names'],
        ['--names', '{data}'],
    ],
    'study': [
        ['--rows', 'none'], ['--jobs', '0'], ['--jobs', 'x'], ['--seeds', 'x'],
        ['--cfg-options', 'a'],
    ],
    'plot_study': [['--metrics', 'none'], ['--metrics']],
    'compare_studies': [['--metrics', 'none'], ['--metrics'], ['--out', '{config}']],
    'compare_focal_loss': [['--loss', 'none']],
    'benchmark_focal_loss': [
        ['--images', '0'], ['--anchors', '-1'], ['--classes', '0'], ['--repeat', '0'],
        ['--images', 'x'],
    ],
    'benchmark_training': [['--config', 'none.py'], ['--images', 'x'], ['--images', '0']],
    'plot_focal_loss': [
        ['--gammas', '-1'], ['--gammas', 'nan'], ['--alpha', '2'],
        ['--alpha', 'x'],
    ],
    'demo': [['--config', 'none.py'], ['--seed', 'x'], ['--seed', '-1']],
    'prepare': [['--none']],
}  # fmt: skip
PARAMETERS = [
    pytest.param(name, [*GOOD.get(name, []), *extra], id=f'{name} {" ".join(extra)}')
    for name, cases in WRONG.items()
    for extra in cases
]
# A missing file, a folder, and an empty file in place of each good argument.
for name, good in GOOD.items():
    for position, argument in enumerate(good):
        for bad in ('none.x', '{empty}', '{data}/nothing.txt'):
            if argument == '{out}' or (argument == '{data}' and bad == '{empty}'):
                continue
            changed = [*good[:position], bad, *good[position + 1 :]]
            PARAMETERS.append(pytest.param(name, changed, id=f'{name} {position} {bad}'))


@pytest.fixture(scope='module')
def places(world, tmp_path_factory):
    """Good files of every kind."""
    from tests.darknet import networks

    from .test_darknet_network import SMALL

    data, config, checkpoint = world
    folder = tmp_path_factory.mktemp('arguments')
    (folder / 'empty').mkdir()
    good = folder / 'good.py'
    good.write_text(
        f"""
_base_ = {str(config)!r}
train_dataloader = dict(
    batch_size=2, num_workers=0, persistent_workers=False,
    dataset=dict(
        _delete_=True, type='CocoDataset', data_root={str(data)!r}, ann_file='train.json',
        data_prefix=dict(img=''), metainfo=dict(classes=('red', 'blue')), pipeline=_base_.pipeline))
"""
    )
    (data / 'nothing.txt').write_text('')
    cfg, weights = networks.write(data, 'a', **SMALL)
    (data / 'a.names').write_text('red\nblue\n')
    (data / 'obj.data').write_text('names = a.names\ntrain = train.txt\n')
    (data / 'train.txt').write_text('1.png\n')
    (data / 'table.csv').write_text(
        'row,seed,minutes,images,parameters,AP50\na,0,1.0,2,3,0.5\na,1,1.0,2,3,0.6\n'
        'b,0,1.0,2,3,0.7\n'
    )
    (data / 'comparisons.csv').write_text('loss,table,row,baseline\nb,table.csv,b,a\n')
    (folder / 'study.py').write_text(f'config = {str(good)!r}\nrows = dict(a=dict())\n')
    return dict(
        config=good, checkpoint=checkpoint, data=data, empty=folder / 'empty',
        study=folder / 'study.py',
    )  # fmt: skip


@pytest.mark.parametrize('name, args', PARAMETERS)
def test_wrong_arguments(places, tool, tmp_path, monkeypatch, name, args):
    monkeypatch.chdir(tmp_path)
    values = places | dict(out=tmp_path / 'out')
    args = [text.format(**values) for text in args]
    message = refuse('argument', (name, args), lambda: tool(name)(args))
    assert len(message.splitlines()[-1]) > 10
    # Of good input that a tool had read already nothing may be left but a database or a lock.
    left = [path for path in tmp_path.rglob('*') if path.is_file()]
    assert not [path for path in left if path.suffix not in ('.db', '.lock', '.log')], left


@pytest.mark.parametrize('name', ALL_TOOLS)
@pytest.mark.parametrize('args', [['--no-such-option'], ['--help-me']], ids=str)
def test_unknown_options(name, args, monkeypatch, tmp_path):
    """Of every tool that there is."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'argv', [f'{name}.py', *args])
    path = str(ROOT / 'tools' / f'{name}.py')
    message = refuse('argument', (name, args), lambda: runpy.run_path(path, run_name='__main__'))
    assert 'unrecognized arguments' in message or 'required' in message
    assert not list(tmp_path.iterdir())
