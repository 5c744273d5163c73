"""Config files and options on the command line that are wrong, given to the tools for training."""

import pytest

from .reaction import refuse

FILES = {
    'syntax error': 'model = dict(backbone=)',
    'half a line': 'model = dict(',
    'indentation': '  model = 3\n model = 4',
    'no text': b'\xff\xfe\x00\x01',
    'NUL': b'model = 1\0',
    'missing base': "_base_ = './nowhere.py'",
    'base is a folder': "_base_ = '.'",
    'base of another kind': '_base_ = 3',
    'base of itself': "_base_ = './bad.py'",
    'duplicate keys of bases': "_base_ = ['{config}', '{config}']",
    'unknown name': "_base_ = '{config}'\nmodel = dict(backbone=dict(widen_factor=nothing))",
    'error inside': "_base_ = '{config}'\nraise OSError('no')",
    'division': "_base_ = '{config}'\nx = 1 / 0",
    'exit': "_base_ = '{config}'\nraise SystemExit",
    'empty': '',
    'no model': 'x = 1',
    'model is a number': "_base_ = '{config}'\nmodel = 3",
    'model of a list': 'model = [1]',
    'import that fails': "_base_ = '{config}'\ncustom_imports = dict(imports=['no_such_module'])",
    'bad custom_imports': "_base_ = '{config}'\ncustom_imports = 3",
    'unknown part': "_base_ = '{config}'\nmodel = dict(backbone=dict(type='Darknet20'))",
    'unknown option': "_base_ = '{config}'\nmodel = dict(backbone=dict(widden=1))",
    'wrong channels': "_base_ = '{config}'\nmodel = dict(bbox_head=dict(in_channels='many'))",
    'anchors in pixels': "_base_ = '{config}'\n"
    'model = dict(bbox_head=dict(anchor_generator=dict(anchors=[(116, 90)])))',
    'unknown hook': "_base_ = '{config}'\ncustom_hooks = [dict(type='NoHook')]",
    'hooks of text': "_base_ = '{config}'\ncustom_hooks = ['NoHook']",
    'unknown optimizer': "_base_ = '{config}'\noptim_wrapper = dict(optimizer=dict(type='None'))",
    'learning rate of text': "_base_ = '{config}'\noptim_wrapper = dict(optimizer=dict(lr='x'))",
    'learning rate NaN': "_base_ = '{config}'\n"
    "optim_wrapper = dict(optimizer=dict(lr=float('nan')))",
    'unknown scheduler': "_base_ = '{config}'\nparam_scheduler = [dict(type='NoLR')]",
    'unknown data set': "_base_ = '{config}'\ntrain_dataloader = dict(dataset=dict(type='No'))",
    'negative batch': "_base_ = '{config}'\ntrain_dataloader = dict(batch_size=-1)",
    'epochs of text': "_base_ = '{config}'\ntrain_cfg = dict(max_epochs='three')",
    'no epochs': "_base_ = '{config}'\ntrain_cfg = dict(max_epochs=-1)",
    'base variable missing': "_base_ = '{config}'\nx = _base_.nothing",
    'reserved key': 'filename = 3',
    'json of a list': None,
}
OPTIONS = {
    'no value': ['model'],
    'empty key': ['=3'],
    'no such part': ['model.backbone.type=Darknet20'],
    'misspelt': ['optim_wraper.optimizer.lr=0.1'],
    'key below a number': ['train_cfg.max_epochs.value=3'],
    'index of a list': ['custom_hooks.99.type=x'],
    'index of text': ['custom_hooks.first.type=x'],
    'negative epochs': ['train_cfg.max_epochs=-3'],
    'classes of text': ['model.bbox_head.num_classes=many'],
    'no classes': ['model.bbox_head.num_classes=0'],
    'gamma of text': ['model.bbox_head.loss_obj.gamma=big'],
    'gamma NaN': ['model.bbox_head.loss_obj.gamma=nan'],
    'unknown normalizer': ['model.bbox_head.normalizer=images'],
    'prior of 2': ['model.bbox_head.prior_prob=2'],
    'open bracket': ['model.bbox_head.loss_obj=[(1,2'],
    'data nowhere': ['train_dataloader.dataset.ann_file=none.json'],
    'folder for annotations': ['train_dataloader.dataset.ann_file=.'],
    'images nowhere': ['train_dataloader.dataset.data_prefix.img=none'],
    'other classes': ['train_dataloader.dataset.metainfo.classes=[green]'],
    'too few in the head': ['model.bbox_head.num_classes=1'],
    'checkpoint nowhere': ['load_from=none.pth'],
    'workers negative': ['train_dataloader.num_workers=-1'],
    'seed of text': ['randomness.seed=first'],
    'step 0': ['model.data_preprocessor.pad_size_divisor=0'],
}
# Names that a clear message may have: of the file, or of what is wrong in it.
NAMES = [
    'bad.', 'nowhere', 'nothing', 'darknet20', 'widden', 'NoHook', 'NoLR', 'optimizer', "'None'",
    'no_such_module', 'custom_imports', 'in_channels', 'batch_size', 'max_epochs', 'lr',
    'learning rate', 'anchor', 'model', 'No is not', 'cfg-options', 'KEY=VALUE', 'num_classes',
    'gamma', 'normalizer', 'prior_prob', 'none', 'green', 'interval', 'num_workers', 'seed',
    'pad_size', 'circular', 'type', 'dict', 'loss', 'annotation file',
]  # fmt: skip


@pytest.mark.parametrize('case', FILES)
def test_bad_files(training, tool, case):
    text = FILES[case]
    bad = training.with_name('bad.py' if text is not None else 'bad.json')
    text = '[1, 2]' if text is None else text
    if isinstance(text, str):
        text = text.replace('{config}', str(training)).encode()
    bad.write_bytes(text)
    args = [str(bad), '--work-dir', 'out']
    refuse('config', ('file', case), lambda: tool('train')(args), NAMES)
    assert not list(training.parent.rglob('*.pth*'))


@pytest.mark.parametrize('case', OPTIONS)
def test_bad_options(training, tool, case):
    args = [str(training), '--work-dir', 'out', '--cfg-options', *OPTIONS[case]]
    refuse('config', ('option', case), lambda: tool('train')(args), NAMES)
    assert not list(training.parent.rglob('*.pth*'))
