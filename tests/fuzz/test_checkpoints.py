"""Checkpoints that are damaged, hostile, or of another detector, in every tool that takes one."""

import io
import pickle
import zipfile

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.config import Config

from mmdet_yolo2fl.checkpoints import verify_checkpoint, verify_resumable
from mmdet_yolo2fl.detector import load_detector
from tests.test_checkpoints import Hostile

from .reaction import FUZZ, react, refuse


def saved(content, **options):
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def zipped(**files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w') as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def renamed(state):
    return {f'backbone.body.{key}': value for key, value in state.items()}


def one(state, change):
    """With one weight changed."""
    state = dict(state)
    key = next(name for name in state if name.endswith('conv.weight'))
    state[key] = change(state[key])
    return state


# Of a state dict and its file, what a bad file holds.
CASES = {
    'empty file': lambda s, f: b'',
    'html': lambda s, f: b'<html>not found</html>',
    'random bytes': lambda s, f: bytes(range(256)) * 40,
    'zeros': lambda s, f: bytes(len(f)),
    'half': lambda s, f: f[: len(f) // 2],
    'last byte lost': lambda s, f: f[:-1],
    'zip of something else': lambda s, f: zipped(a='b'),
    'zip that climbs': lambda s, f: zipped(**{'../../climbed': 'b', 'archive/data.pkl': 'x'}),
    'zip with an empty pickle': lambda s, f: zipped(**{'archive/data.pkl': b''}),
    'plain pickle': lambda s, f: pickle.dumps(dict(a=1)),
    'pickle bomb': lambda s, f: b'\x80\x04' + b'(' * 100_000 + b'.',
    'pickle that never ends': lambda s, f: b'\x80\x04]' + b'\x94' * 1000,
    'list': lambda s, f: saved([1, 2]),
    'number': lambda s, f: saved(3),
    'tensor': lambda s, f: saved(torch.zeros(3)),
    'module': lambda s, f: saved(torch.nn.Linear(1, 1)),
    'state_dict is a list': lambda s, f: saved(dict(state_dict=[1])),
    'state_dict of texts': lambda s, f: saved(dict(state_dict=dict.fromkeys(s, 'text'))),
    'empty dict': lambda s, f: saved({}),
    'empty state_dict': lambda s, f: saved(dict(state_dict={})),
    'half of the weights': lambda s, f: saved(dict(list(s.items())[: len(s) // 2])),
    'another detector': lambda s, f: saved(renamed(s)),
    'one weight missing': lambda s, f: saved({k: v for k, v in s.items() if 'conv_pred' not in k}),
    'one weight more': lambda s, f: saved(s | {'backbone.more.weight': torch.zeros(3)}),
    'other shape': lambda s, f: saved(one(s, lambda w: w[:1])),
    'other dimensions': lambda s, f: saved(one(s, lambda w: w.flatten())),
    'NaN': lambda s, f: saved(one(s, lambda w: w * float('nan'))),
    'infinite': lambda s, f: saved(one(s, lambda w: w * float('inf'))),
    'complex': lambda s, f: saved(one(s, lambda w: w.to(torch.complex64) * 1j * float('nan'))),
    'meta is a text': lambda s, f: saved(dict(state_dict={}, meta='x')),
}
# Tools that take a checkpoint, and what comes before and behind it.
TOOLS = {
    'test': ([], []),
    'predict': ([], ['{data}', '--out', '{out}', '--device', 'cpu']),
    'export': ([], ['--out', '{out}', '--formats', 'darknet']),
    'mmdet2darknet': ([], ['{out}']),
    'compare_opencv': ([], ['--out', '{out}']),
    'train': (['--work-dir', '{out}', '--resume'], []),
}


@pytest.fixture
def folder(world, tmp_path, monkeypatch):
    """Of a module: config, good state and file; the present folder is an empty one."""
    data, config, checkpoint = world
    monkeypatch.chdir(tmp_path)
    return tmp_path, data, config, torch.load(checkpoint), checkpoint.read_bytes()


def arguments(name, folder, bad):
    path, data, config, *_ = folder
    before, behind = TOOLS[name]
    values = dict(data=data, out=path / 'out')
    return [text.format(**values) for text in (str(config), *before, str(bad), *behind)]


@pytest.mark.parametrize('case', CASES)
def test_a_bad_checkpoint_is_refused_before_it_is_used(folder, case):
    path, _, config, state, file = folder
    (path / 'bad.pth').write_bytes(CASES[case](state, file))
    cfg = Config.fromfile(config)
    refuse('checkpoint', case, lambda: load_detector(cfg, path / 'bad.pth'), ['bad.pth'], path)
    assert not (path.parent / 'climbed').exists()


@pytest.mark.parametrize('name', TOOLS)
@pytest.mark.parametrize(
    'case', ['half', 'another detector', 'one weight missing', 'other shape', 'NaN', 'empty dict']
)
def test_in_every_tool(folder, tool, name, case):
    path, _, _, state, file = folder
    (path / 'bad.pth').write_bytes(CASES[case](state, file))
    args = arguments(name, folder, path / 'bad.pth')
    refuse('checkpoint', (name, case), lambda: tool(name)(args), ['bad.pth', 'squares'])
    written = [p for p in path.rglob('*') if p.is_file() and p.suffix in ('.pkl', '.cfg', '.json')]
    assert not [p for p in written if 'vis_data' not in str(p)]


@pytest.mark.parametrize('name', TOOLS)
@pytest.mark.parametrize('zip_file', [True, False])
def test_a_hostile_one_does_not_run(folder, tool, name, zip_file):
    path, _, _, state, _ = folder
    mark = path / 'mark'
    content = dict(state_dict=state, meta=Hostile(mark))
    (path / 'bad.pth').write_bytes(saved(content, _use_new_zipfile_serialization=zip_file))
    args = arguments(name, folder, path / 'bad.pth')
    message = refuse('checkpoint', (name, 'hostile', zip_file), lambda: tool(name)(args))
    assert 'bad.pth' in message and 'untrusted pickle' in message
    assert not mark.exists()


STARTS = [('train', key) for key in ('load_from', 'resume', 'backbone', 'detector')]
# These begin anew, and the last one without what the config starts from.
STARTS += [('benchmark_analysis', key) for key in ('load_from', 'backbone', 'detector')]
STARTS += [('benchmark_deploy', key) for key in ('backbone', 'detector')]


@pytest.mark.parametrize('name, key', STARTS)
def test_a_hostile_one_in_the_config(folder, tool, name, key):
    """Where tools look for weights besides their arguments."""
    path, data, config, _, _ = folder
    mark, bad = path / 'mark', path / 'bad.pth'
    bad.write_bytes(saved(dict(state_dict=Hostile(mark))))
    init = dict(type='Pretrained', checkpoint=str(bad))
    text = {
        'load_from': f'load_from = {str(bad)!r}',
        'resume': f'load_from = {str(bad)!r}\nresume = True',
        'backbone': f'model = dict(backbone=dict(init_cfg={init!r}))',
        'detector': f'model = dict(init_cfg=[{init!r}])',
    }[key]
    (path / 'evil.py').write_text(f'_base_ = {str(config)!r}\n{text}\n')
    args = [str(path / 'evil.py'), *(['--work-dir', str(path / 'out')] if name == 'train' else [])]
    message = refuse('checkpoint', (name, key), lambda: tool(name)(args), ['bad.pth'])
    assert 'untrusted pickle' in message and not mark.exists()


def test_a_program_in_the_meta_does_not_run(folder, tool):
    """A checkpoint of plain values, whose `config` MMEngine would run when it resumes."""
    path, _, config, state, _ = folder
    mark = path / 'mark'
    program = f'from pathlib import Path\nPath({str(mark)!r}).touch()\n'
    meta = dict(epoch=1, iter=2, config=program)
    (path / 'bad.pth').write_bytes(saved(dict(state_dict=state, meta=meta, message_hub={})))
    verify_checkpoint(path / 'bad.pth')  # nothing in it is a pickle that could run
    args = arguments('train', folder, path / 'bad.pth')
    message = refuse('checkpoint', 'program in meta', lambda: tool('train')(args), ['bad.pth'])
    assert "meta['config'] would be run" in message and not mark.exists()
    Config.fromstring(program, '.py')
    assert mark.exists(), 'the program is harmless: this test shows nothing'


RESUME = {
    'weights alone': (lambda content: content.pop('meta'), 'no state of a training'),
    'no message hub': (lambda content: content.pop('message_hub'), 'no state of a training'),
    'no optimizer': (lambda content: content.pop('optimizer'), 'no state of a training'),
    'epoch of text': (lambda content: content['meta'].update(epoch='1'), "meta['epoch'] is '1'"),
    'no iteration': (lambda content: content['meta'].pop('iter'), "meta['iter'] is None"),
    'meta is a list': (lambda content: content.update(meta=[1]), 'no state of a training'),
}


def training_state(state):
    return dict(state_dict=state, meta=dict(epoch=1, iter=2), message_hub={}, optimizer={})


@pytest.mark.parametrize('case', RESUME)
def test_what_cannot_be_resumed(folder, tool, case):
    path, _, _, state, _ = folder
    content = training_state(state)
    (path / 'bad.pth').write_bytes(saved(content))
    verify_resumable(path / 'bad.pth')
    change, told = RESUME[case]
    change(content)
    (path / 'bad.pth').write_bytes(saved(content))
    args = arguments('train', folder, path / 'bad.pth')
    message = refuse('checkpoint', ('resume', case), lambda: tool('train')(args), ['bad.pth'])
    assert told in message


@pytest.mark.parametrize(
    'case, option',
    [('another detector', 'load_from={}')]
    + [(case, '--resume') for case in ('another detector', 'one weight missing', 'other shape')],
)
def test_no_training_begins_with_weights_of_another(training, world, tool, case, option):
    state, bad = torch.load(world[2]), training.with_name('bad.pth')
    unfit = torch.load(io.BytesIO(CASES[case](state, None)))
    bad.write_bytes(saved(training_state(unfit)))
    how = ['--resume', str(bad)] if option == '--resume' else ['--cfg-options', option.format(bad)]
    args = [str(training), '--work-dir', 'out', *how]
    message = refuse('checkpoint', (case, option), lambda: tool('train')(args), ['bad.pth'])
    assert 'does not fit' in message
    assert not list(training.parent.rglob('epoch_*'))


@pytest.mark.parametrize('name', ['test', 'compare_opencv'])
def test_a_config_of_a_resumed_training_resumes_no_test(folder, tool, name):
    """MMEngine would run what the checkpoint calls its config."""
    path, _, config, state, _ = folder
    mark, resumed = path / 'mark', path / 'resumed.py'
    resumed.write_text(f'_base_ = {str(config)!r}\nresume = True\n')
    program = f'from pathlib import Path\nPath({str(mark)!r}).touch()\n'
    meta = dict(epoch=1, iter=2, config=program)
    (path / 'good.pth').write_bytes(saved(training_state(state) | dict(meta=meta)))
    options = dict(test=['--work-dir', 'out'], compare_opencv=['--out', 'out', '--images', '1'])
    tool(name)([str(resumed), str(path / 'good.pth'), *options[name]])
    assert not mark.exists()


@pytest.fixture(scope='module')
def originals(world):
    """A config, and the same weights in PyTorch's new and old kind of file."""
    _, config, checkpoint = world
    state = torch.load(checkpoint)
    return Config.fromfile(config), {
        kind: saved(state, _use_new_zipfile_serialization=kind) for kind in (True, False)
    }


@settings(FUZZ, max_examples=60)
@given(
    at=st.floats(0, 1),
    cut=st.integers(0, 64),
    put=st.binary(max_size=16),
    zip_file=st.booleans(),
)
def test_any_byte_lost_or_added(originals, tmp_path_factory, at, cut, put, zip_file):
    config, files = originals
    folder = tmp_path_factory.getbasetemp() / 'fuzzed'
    folder.mkdir(exist_ok=True)
    file = files[zip_file]
    start = int(at * len(file))
    (folder / 'bad.pth').write_bytes(file[:start] + put + file[start + cut :])

    def load():
        model, _ = load_detector(config, folder / 'bad.pth')
        assert all(value.isfinite().all() for value in model.state_dict().values())

    react('checkpoint', (at, cut, put, zip_file), load, ['bad.pth'])
