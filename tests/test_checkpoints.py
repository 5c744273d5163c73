import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.optim import OneCycleLR
from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler
from mmengine.runner.checkpoint import _load_checkpoint

from mmdet_yolo2fl.checkpoints import (
    DamagedCheckpointError,
    latest_whole_checkpoint,
    load_only_weights,
    load_verified,
    verify_checkpoint,
    verify_resumable,
)


class Hostile:
    """Unpickling it leaves a file behind."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def weights() -> dict:
    return dict(state_dict=dict(weight=torch.arange(6.0).reshape(2, 3)))


def save(tmp_path: Path, content, **kwargs) -> Path:
    path = tmp_path / 'checkpoint.pth'
    torch.save(content, path, **kwargs)
    return path


@pytest.mark.parametrize('zipped', [True, False])
def test_accepts_what_the_runner_saves(tmp_path, zipped):
    history = HistoryBuffer([1.0, 2.0], [1, 1])
    content = dict(
        weights(),
        meta=dict(epoch=3, iter=12, seed=np.random.default_rng(0).integers(9)),
        message_hub=dict(log_scalars=dict(loss=history), runtime_info=dict(lr=np.float64(0.1))),
        optimizer=dict(state={0: dict(step=torch.tensor(3.0))}, param_groups=[dict(lr=0.1)]),
    )
    path = save(tmp_path, content, _use_new_zipfile_serialization=zipped)
    assert verify_checkpoint(path) == path
    assert verify_checkpoint(str(path)) == path


@pytest.mark.parametrize('zipped', [True, False])
@pytest.mark.parametrize('strategy', ['cos', 'linear'])
def test_accepts_a_schedule_of_one_cycle(tmp_path, strategy, zipped):
    """It keeps a function by which it goes from one rate to another."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule = OneCycleLR(optimizer, eta_max=0.1, total_steps=9, anneal_strategy=strategy)
    content = dict(weights(), meta=dict(epoch=1, iter=4), message_hub={}, optimizer={})
    content['param_schedulers'] = [schedule.state_dict()]
    path = save(tmp_path, content, _use_new_zipfile_serialization=zipped)
    assert verify_resumable(path) == path
    found = load_verified(path)['param_schedulers'][0]['anneal_func']
    assert found(0.1, 0.3, 1.0) == pytest.approx(0.3)


def test_other_methods_of_it_are_refused(tmp_path, monkeypatch):
    monkeypatch.delenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', raising=False)
    path = save(tmp_path, dict(weights(), meta=OneCycleParamScheduler.step))
    with pytest.raises(ValueError, match='untrusted pickle'):
        verify_checkpoint(path)


def test_the_best_weights_alone_are_nothing_to_resume(tmp_path):
    """MMEngine would go on with a new optimizer and the rates of the beginning."""
    content = dict(weights(), meta=dict(epoch=30, iter=300), message_hub={})
    with pytest.raises(ValueError, match=r'no state of a training.*as best_.*name an epoch_N'):
        verify_resumable(save(tmp_path, content))
    with pytest.raises(ValueError, match='saved with save_optimizer=False'):
        verify_resumable(save(tmp_path, content | dict(param_schedulers=[])))
    for key in ('optimizer', 'optim_wrapper'):
        assert verify_resumable(save(tmp_path, content | {key: {}}))


@pytest.mark.parametrize('zipped', [True, False])
def test_hostile_is_refused_and_not_run(tmp_path, zipped, monkeypatch):
    monkeypatch.delenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', raising=False)  # a tool has set it
    mark = tmp_path / 'mark'
    path = save(
        tmp_path, dict(weights(), meta=Hostile(mark)), _use_new_zipfile_serialization=zipped
    )
    with pytest.raises(ValueError, match=r'checkpoint\.pth: made by untrusted pickle.*pathlib'):
        verify_checkpoint(path)
    assert not mark.exists()
    torch.load(path, weights_only=False)
    assert mark.exists(), 'the file is harmless: this test shows nothing'


def test_an_old_pytorch_loads_what_it_could_not_look_through(tmp_path, monkeypatch):
    monkeypatch.delenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', raising=False)  # a tool has set it
    content = dict(weights(), message_hub=dict(log_scalars=dict(loss=HistoryBuffer([1.0], [1]))))
    path = save(tmp_path, content)
    allowed = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()  # as PyTorch 2.5 has it
    monkeypatch.setattr(torch, '__version__', '2.5.1')
    try:
        with pytest.raises(pickle.UnpicklingError):
            torch.load(path, weights_only=True)
        loaded = load_verified(verify_checkpoint(path))
        assert torch.equal(loaded['state_dict']['weight'], content['state_dict']['weight'])
    finally:
        torch.serialization.add_safe_globals(allowed)


class Reaches:
    """Asks ``getattr`` for something else than a statistic of the logged numbers."""

    def __init__(self, *args) -> None:
        self.args = args

    def __reduce__(self):
        return getattr, self.args


@pytest.mark.parametrize('args', [(HistoryBuffer, '__init__'), (torch.Tensor, 'numpy')])
def test_getattr_reaches_statistics_only(tmp_path, args):
    with pytest.raises(ValueError, match='untrusted pickle.*getattr'):
        verify_checkpoint(save(tmp_path, dict(meta=Reaches(*args))))


def test_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match='nowhere.pth does not exist'):
        verify_checkpoint(tmp_path / 'nowhere.pth')
    with pytest.raises(FileNotFoundError):
        verify_checkpoint(tmp_path / 'no_folder/epoch_1.pth')


def test_folders(tmp_path):
    """FSDP and DeepSpeed write them: each process its share."""
    shares = tmp_path / 'epoch_2.pth'
    shares.mkdir()
    with pytest.raises(ValueError, match='epoch_2.pth: is a folder; name a file in it'):
        verify_checkpoint(shares)
    (tmp_path / 'last_checkpoint').write_text(str(shares))
    with pytest.raises(ValueError, match='epoch_2.pth: is a folder'):
        latest_whole_checkpoint(tmp_path)
    for damaged in ('', '\n', str(tmp_path)):
        (tmp_path / 'last_checkpoint').write_text(damaged)
        with pytest.raises(ValueError, match='no checkpoint to resume is whole|is a folder'):
            latest_whole_checkpoint(tmp_path)


@pytest.mark.parametrize('content', ['', '\n', '/', 'gone'])
def test_a_pointer_without_a_name_stays_in_its_folder(tmp_path, content):
    run = tmp_path / 'run'
    run.mkdir()
    for place in (run / 'epoch_3.pth', tmp_path / 'epoch_9.pth'):
        meta = dict(epoch=3, iter=9)
        torch.save(dict(state_dict=weights(), optimizer={}, message_hub={}, meta=meta), place)
    (run / 'last_checkpoint').write_text(content)
    assert latest_whole_checkpoint(run) == run / 'epoch_3.pth'


@pytest.mark.parametrize('part', [0.5, 0.99])
def test_a_pytorch_that_cannot_look_through_files_sees_whether_they_are_whole(
    tmp_path, monkeypatch, part
):
    monkeypatch.setattr(torch, '__version__', '2.5.1')
    for epoch in (1, 2):
        meta = dict(epoch=epoch, iter=9)
        whole = dict(state_dict=weights(), optimizer={}, message_hub={}, meta=meta)
        torch.save(whole, tmp_path / f'epoch_{epoch}.pth')
    last = tmp_path / 'epoch_2.pth'
    (tmp_path / 'last_checkpoint').write_text(str(last))
    assert latest_whole_checkpoint(tmp_path) == last
    content = last.read_bytes()
    last.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(DamagedCheckpointError, match='epoch_2.pth: damaged'):
        verify_checkpoint(last)
    assert latest_whole_checkpoint(tmp_path) == tmp_path / 'epoch_1.pth'


@pytest.mark.parametrize('part', [0, 0.1, 0.5, 0.99])
def test_damaged(tmp_path, part):
    path = save(tmp_path, weights())
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(ValueError, match='damaged'):
        verify_checkpoint(path)


@pytest.mark.parametrize('content', [b'<html>not found</html>', pickle.dumps(dict(a=1)), b'PK\3\4'])
def test_not_a_checkpoint(tmp_path, content):
    path = tmp_path / 'checkpoint.pth'
    path.write_bytes(content)
    with pytest.raises(ValueError, match='checkpoint.pth'):
        verify_checkpoint(path)


def test_not_a_dict(tmp_path):
    with pytest.raises(ValueError, match='holds a list, not a dict'):
        verify_checkpoint(save(tmp_path, [1, 2]))


def test_address_is_downloaded_then_verified(tmp_path, monkeypatch):
    downloads = []

    def download(url, target):
        downloads.append(url)
        torch.save(weights(), target)

    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, 'download_url_to_file', download)
    url = 'https://example.org/models/yolov2.pth?raw=1'
    for _ in range(2):
        assert verify_checkpoint(url) == tmp_path / 'checkpoints' / 'yolov2.pth'
    assert downloads == [url]


def test_failed_download(tmp_path, monkeypatch):
    def download(url, target):
        raise OSError('no route')

    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, 'download_url_to_file', download)
    with pytest.raises(ValueError, match='cannot be downloaded .no route'):
        verify_checkpoint('https://example.org/yolov2.pth')


def test_other_addresses_are_refused():
    with pytest.raises(ValueError, match='s3://.*Download'):
        verify_checkpoint('s3://bucket/yolov2.pth')


def test_load_only_weights_stops_mmengine_too(tmp_path, monkeypatch):
    """What ``init_cfg`` names goes to MMEngine's loader, which would unpickle anything."""
    mark = tmp_path / 'mark'
    path = save(tmp_path, dict(weights(), meta=Hostile(mark)))
    monkeypatch.setenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', '0')
    load_only_weights()
    with pytest.raises(pickle.UnpicklingError):
        _load_checkpoint(str(path), map_location='cpu')
    assert not mark.exists()
    harmless = save(tmp_path, dict(weights(), message_hub=HistoryBuffer([1.0], [1])))
    assert _load_checkpoint(str(harmless), map_location='cpu')['message_hub'].mean() == 1
