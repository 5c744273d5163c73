import pickle

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.fileio import dump

from mmdet_yolo2fl.analysis.predictions import (
    fingerprint,
    flatten,
    read_predictions,
    save_predictions,
)
from tests.analysis.made import found
from tests.test_checkpoints import Hostile

ENTRY = found((1, 0.5, (1, 2, 3, 4)), (0, 0.25, (5, 6, 7, 8)))


def test_reads_what_was_saved(tmp_path):
    for save in (lambda path: save_predictions([ENTRY], path), lambda path: dump([ENTRY], path)):
        path = tmp_path / 'found.pkl'
        save(path)
        (entry,) = read_predictions(path)
        for key, value in ENTRY['pred_instances'].items():
            assert torch.equal(entry['pred_instances'][key], value)
    assert not list(tmp_path.glob('*.tmp'))


def test_arrays_and_bytes(tmp_path):
    entry = ENTRY | dict(extra=[np.arange(3), np.float64(2), b'mask', np.array(['a'])])
    dump([entry], tmp_path / 'found.pkl')
    (read,) = read_predictions(tmp_path / 'found.pkl')
    assert read['extra'][0].tolist() == [0, 1, 2] and read['extra'][1:3] == [2, b'mask']


def test_hostile_is_refused_and_not_run(tmp_path):
    mark, path = tmp_path / 'mark', tmp_path / 'found.pkl'
    path.write_bytes(pickle.dumps([Hostile(mark)]))
    with pytest.raises(ValueError, match=r'found\.pkl: not read.*pathlib.*could run code'):
        read_predictions(path)
    assert not mark.exists()


def test_hostile_storage_is_refused_and_not_run(tmp_path, monkeypatch):
    """What a tensor is read from is a pickle once more."""
    monkeypatch.delenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', raising=False)  # a tool has set it
    mark, path = tmp_path / 'mark', tmp_path / 'found.pkl'

    class Storage:
        def __reduce__(self):
            torch.save(Hostile(mark), tmp_path / 'inner', _use_new_zipfile_serialization=False)
            return torch.storage._load_from_bytes, ((tmp_path / 'inner').read_bytes(),)

    path.write_bytes(pickle.dumps([Storage()]))
    with pytest.raises(ValueError, match=r'found\.pkl: not read'):
        read_predictions(path)
    assert not mark.exists()
    pickle.loads(path.read_bytes())
    assert mark.exists(), 'the file is harmless: this test shows nothing'


@pytest.mark.parametrize('content', [3, [3], [{}], [dict(pred_instances=dict(scores=[]))]])
def test_other_contents_are_refused(tmp_path, content):
    dump(content, tmp_path / 'found.pkl')
    with pytest.raises(ValueError, match='pred_instances with bboxes, scores and labels'):
        read_predictions(tmp_path / 'found.pkl')


def test_missing_and_damaged(tmp_path):
    with pytest.raises(FileNotFoundError, match='nowhere.pkl'):
        read_predictions(tmp_path / 'nowhere.pkl')
    (tmp_path / 'cut.pkl').write_bytes(pickle.dumps([ENTRY])[:-9])
    with pytest.raises(ValueError, match='cut.pkl: not read'):
        read_predictions(tmp_path / 'cut.pkl')


def test_flattened():
    flat = flatten([found(), ENTRY], ['a', 'b'], 2)
    assert flat.images.tolist() == [1, 1] and flat.labels.tolist() == [1, 0]
    assert flat.scores.tolist() == [0.5, 0.25]
    assert flat.boxes.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert flatten([found()], ['a'], 2).boxes.shape == (0, 4)


@pytest.mark.parametrize('score', [float('nan'), float('inf')])
def test_what_is_not_finite_is_refused(score):
    with pytest.raises(ValueError, match="image 'b': a predicted score or box is not finite"):
        flatten([ENTRY, found((0, score, (0, 0, 1, 1)))], ['a', 'b'], 2)
    with pytest.raises(ValueError, match='not finite'):
        flatten([found((0, 0.5, (0, 0, 1, score)))], ['a'], 2)


def test_of_another_data_set():
    with pytest.raises(ValueError, match='for 1 images, but the data set has 2'):
        flatten([ENTRY], ['a', 'b'], 2)
    with pytest.raises(ValueError, match="number 0 is of 'x', in the data set it is 'a'"):
        flatten([ENTRY | dict(img_id='x')], ['a'], 2)
    for unknown in (ENTRY, ENTRY | dict(img_id=None)):  # some data sets give none
        assert len(flatten([unknown], ['a'], 2).images) == 2
    with pytest.raises(ValueError, match=r'label lies outside 0\.\.0'):
        flatten([ENTRY], ['a'], 1)


def test_fingerprint_tells_what_predictions_hang_on(tmp_path):
    checkpoint = tmp_path / 'a.pth'
    checkpoint.write_bytes(b'weights')

    def print_of(split='test', model=1, workers=2, size=3):
        loader = dict(num_workers=workers, dataset=dict(size=size))
        config = Config(dict(model=dict(a=model), test_dataloader=loader, val_dataloader=dict(b=1)))
        return fingerprint(config, checkpoint, split)

    first = print_of()
    assert print_of(workers=9) == first
    others = [print_of('val'), print_of(model=2), print_of(size=4)]
    checkpoint.write_bytes(b'other weights')
    others.append(print_of())
    assert len({first, *others}) == 5
    config = Config(dict(model=dict(a=1), test_dataloader=dict(b=1)))
    image = tmp_path / 'a.jpg'

    def of_images(*images):
        return fingerprint(config, checkpoint, 'test', images)

    found = [of_images((1, str(image))), of_images((2, str(image)))]
    found.append(of_images((1, str(image)), (2, 's3://elsewhere.jpg')))
    for content in (b'one', b'other'):
        image.write_bytes(content)
        found.append(of_images((1, str(image))))
        assert of_images((1, str(image))) == found[-1]
    assert len(set(found)) == 5
