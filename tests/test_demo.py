"""`make demo` at a tiny size; and what a user does next with its checkpoint."""

import json
import runpy
from pathlib import Path

import mmdet
import numpy as np
import pytest
import torch
from mmdet.apis import DetInferencer
from mmdet.models import SingleStageDetector
from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config
from mmengine.device import utils as device_utils
from mmengine.runner import Runner
from mmengine.structures import InstanceData

from mmdet_yolo2fl.average_precision import ap_by_class
from mmdet_yolo2fl.datasets import TinyTrafficDataset
from tests.test_checkpoints import Hostile
from tests.tools.conftest import write_data, write_squares

ROOT = Path(__file__).parents[1]
CONFIG = f"""
_base_ = [{str(ROOT / 'configs' / 'yolov2_fl.py')!r}]
model = dict(
    backbone=dict(widen_factor=0.0625),
    neck=dict(in_channels=(32, 64), out_channels=16, passthrough_channels=4),
    bbox_head=dict(in_channels=32, feat_channels=16),
    test_cfg=dict(score_thr=0.0),  # it has hardly learned anything
)
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(num_images=4, image_size=(128, 96)),
)
val_dataloader = dict(
    num_workers=0, persistent_workers=False, dataset=dict(num_images=3, image_size=(128, 96))
)
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=2, val_interval=1)
default_hooks = dict(logger=dict(interval=1))
# Visualizers of one name are one, with the folder of the first, and other tests have one too.
visualizer = dict(name='demo_test')
"""


def tool(name):
    return runpy.run_path(str(ROOT / 'tools' / f'{name}.py'))['main']


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp('demo')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('MMDET_YOLO2FL_DATA', str(folder / 'data'))
        (folder / 'tiny.py').write_text(CONFIG)
        tool('demo')(['--config', str(folder / 'tiny.py'), '--out', str(folder / 'out')])
        yield folder


def test_leaves_everything_in_one_folder(run):
    out = run / 'out'
    for name in ('predictions.jpg', 'loss_curve.png'):
        assert (out / name).stat().st_size > 1000
    assert len(list((out / 'predictions').glob('*.png'))) == 3
    table = (out / 'results.md').read_text()
    assert all(f'| {name} |' in table for name in ('car', 'truck', 'pedestrian', 'cyclist'))
    content = json.loads((out / 'results.json').read_text())
    metrics, table = content['metrics'], content['ap50_and_ap']
    expected = [metrics['coco/bbox_mAP_50'], metrics['coco/bbox_mAP']]
    assert table['all'] == pytest.approx(expected, abs=1e-3)  # the metric rounds
    for name in ('car', 'truck', 'pedestrian', 'cyclist'):
        expected = metrics[f'coco/{name}_precision']
        assert table[name][1] == pytest.approx(expected, abs=1e-3, nan_ok=True)


def test_a_data_set_of_ones_own(tmp_path, monkeypatch):
    """Its metric reads the truths from the file of annotations."""
    monkeypatch.setenv('MMDET_YOLO2FL_DATA', str(tmp_path / 'embedded'))
    root = write_data(tmp_path / 'data')
    config, _ = write_squares(tmp_path, root)
    with config.open('a') as stream:
        stream.write(
            "train_cfg = dict(max_epochs=1, val_interval=1)\nvisualizer = dict(name='own_demo')\n"
            "_data = test_dataloader['dataset'] | dict(ann_file='train.json', test_mode=False)\n"
            'train_dataloader = dict(\n'
            '    batch_size=2, num_workers=0, persistent_workers=False, dataset=_data)\n'
        )
    tool('demo')(['--config', str(config), '--out', str(tmp_path / 'out')])
    table = (tmp_path / 'out/results.md').read_text()
    assert '| red |' in table and '| blue |' in table and '| all |' in table


def test_the_curves_are_the_losses_and_not_what_they_looked_at(run):
    figure = runpy.run_path(str(ROOT / 'tools/demo.py'))['draw_curves'](run / 'out')
    losses, evaluation = figure.axes
    shown = [text.get_text() for text in losses.get_legend().get_texts()]
    assert shown == ['loss', 'loss_cls', 'loss_obj', 'loss_wh', 'loss_xy']
    assert all(len(line.get_xdata()) == 4 for line in losses.get_lines())  # iterations
    assert evaluation.get_lines()[0].get_xdata().tolist() == [1, 2]


def test_not_on_apples_gpu(tmp_path, monkeypatch):
    """For which MMCV has no NMS."""
    monkeypatch.setattr(device_utils, 'DEVICE', 'mps')
    demo = runpy.run_path(str(ROOT / 'tools/demo.py'))
    demo['load_config'](demo['parse_args'](['--out', str(tmp_path)]))
    assert device_utils.DEVICE == 'cpu'


def test_pictures_of_several_sizes_make_a_page():
    page = runpy.run_path(str(ROOT / 'tools/demo.py'))['page']
    sizes = [(40, 60), (60, 40), (80, 120), (33, 47)]
    whole = page([np.full((*size, 3), 9, np.uint8) for size in sizes])
    assert whole.shape == (80, 120, 3)
    assert (whole[:40, :60] == 9).all() and (whole[40:, :60] == 9).all()
    assert (whole[:40, 60:87] == 9).all() and (whole[:40, 87:] == 255).all()


def test_a_config_of_another_metric_is_refused_before_training(tmp_path):
    file = tmp_path / 'voc.py'
    file.write_text(CONFIG + "val_evaluator = dict(_delete_=True, type='VOCMetric')\n")
    with pytest.raises(SystemExit, match='voc.py: is not evaluated by a CocoMetric'):
        tool('demo')(['--config', str(file), '--out', str(tmp_path / 'out')])
    assert not (tmp_path / 'out').exists()


def test_a_config_that_counts_iterations_is_refused_before_training(tmp_path):
    file = tmp_path / 'by_iterations.py'
    loop = "train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=8)\n"
    file.write_text(CONFIG.replace('train_cfg = dict(max_epochs=2, val_interval=1)\n', loop))
    with pytest.raises(SystemExit, match='by_iterations.py: counts iterations'):
        tool('demo')(['--config', str(file), '--out', str(tmp_path / 'out')])
    assert not (tmp_path / 'out').exists()


def test_ap_by_class_of_known_detections(tmp_path):
    truths = [(1, 1, [10, 10, 40, 20]), (1, 2, [60, 10, 20, 30]), (2, 1, [5, 5, 30, 30])]
    annotations = [
        dict(id=i + 1, image_id=image, category_id=c, bbox=box, area=box[2] * box[3], iscrowd=0)
        for i, (image, c, box) in enumerate(truths)
    ]
    categories = [dict(id=1, name='car'), dict(id=2, name='truck')]
    images = [dict(id=1, width=100, height=60), dict(id=2, width=100, height=60)]
    content = dict(images=images, annotations=annotations, categories=categories)
    (tmp_path / 'detections.gt.json').write_text(json.dumps(content))
    # One car exactly and one missed; the truck with IoU 2/3: right at 0.5, 0.55, 0.6 and 0.65.
    found = [(1, 1, [10, 10, 40, 20], 0.9), (1, 2, [60, 10, 20, 20], 0.8)]
    detections = [dict(image_id=i, category_id=c, bbox=b, score=s) for i, c, b, s in found]
    (tmp_path / 'detections.bbox.json').write_text(json.dumps(detections))
    table = ap_by_class(tmp_path / 'detections')
    half = 51 / 101  # recall 0.5 is reached at 51 of the 101 points
    assert table['car'] == pytest.approx((half, half))
    assert table['truck'] == pytest.approx((1.0, 0.4))
    assert table['all'] == pytest.approx(((half + 1) / 2, (half + 0.4) / 2))

    # In another order; COCOeval's is that of the ids.
    content['categories'] = categories[::-1]
    (tmp_path / 'detections.gt.json').write_text(json.dumps(content))
    assert ap_by_class(tmp_path / 'detections') == table

    # Of an annotation file of the user's, and one class of it.
    (tmp_path / 'detections.gt.json').rename(tmp_path / 'mine.json')
    found = ap_by_class(tmp_path / 'detections', tmp_path / 'mine.json', ['truck', 'bus'])
    assert found == dict(truck=table['truck'], all=table['truck'])
    # Nothing found is 0, and no number where there was nothing to find.
    (tmp_path / 'detections.bbox.json').write_text('[]')
    content['categories'].append(dict(id=3, name='bus'))
    (tmp_path / 'mine.json').write_text(json.dumps(content))
    found = ap_by_class(tmp_path / 'detections', tmp_path / 'mine.json')
    assert found['car'] == found['truck'] == found['all'] == (0.0, 0.0)
    assert np.isnan(found['bus']).all()
    found = ap_by_class(tmp_path / 'detections', tmp_path / 'mine.json', ['bus'])
    assert np.isnan([*found['bus'], *found['all']]).all()


def test_another_seed_needs_another_folder(run):
    arguments = ['--config', str(run / 'tiny.py'), '--out', str(run / 'out'), '--seed', '1']
    with pytest.raises(SystemExit, match='another config or seed'):
        tool('demo')(arguments)


@pytest.mark.parametrize('case', ['good', 'hostile', 'of another', 'missing'])
def test_starts_from_the_weights_of_the_config(run, tmp_path, monkeypatch, case):
    """It does not resume them, which would run what they call their config."""
    main, start = tool('demo'), tmp_path / 'start.pth'
    content = torch.load(run / 'out/epoch_2.pth', weights_only=False)
    content['meta']['config'] = f"open({str(tmp_path / 'ran')!r}, 'w')"
    if case == 'hostile':
        content['meta'] = Hostile(tmp_path / 'ran')
    if case == 'of another':
        content['state_dict'] = {f'body.{k}': v for k, v in content['state_dict'].items()}
    if case != 'missing':
        torch.save(content, start)
    config = tmp_path / 'mine.py'
    config.write_text(f'_base_ = {str(run / "tiny.py")!r}\nload_from = {str(start)!r}\n')
    arguments = ['--config', str(config), '--out', str(tmp_path / 'out')]
    told = dict(hostile='untrusted pickle', missing='start.pth', good='begun')
    told['of another'] = 'does not fit'
    begun = []

    def train(runner):
        begun.append((runner.cfg.resume, runner.cfg.load_from))
        raise ValueError('begun')

    monkeypatch.setattr(main.__globals__['Runner'], 'train', train)
    with pytest.raises(SystemExit, match=told[case]):
        main(arguments)
    assert begun == ([(False, str(start))] if case == 'good' else [])
    assert not (tmp_path / 'ran').exists()


def test_does_nothing_twice(run, capsys):
    out = run / 'out'
    before = {path: path.stat().st_mtime_ns for path in out.rglob('*')}
    tool('demo')(['--config', str(run / 'tiny.py'), '--out', str(out)])
    assert 'Done before' in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob('*')}


def test_the_same_evaluation_by_test_py(run):
    metrics = tool('test')(
        [str(run / 'tiny.py'), str(run / 'out' / 'epoch_2.pth'), '--work-dir', str(run / 'test')]
    )
    content = json.loads((run / 'out' / 'results.json').read_text())
    assert metrics['coco/bbox_mAP'] == content['metrics']['coco/bbox_mAP']


@DATASETS.register_module()
class OneSided(TinyTrafficDataset):
    """One object in the left half of every image, so that a flipped truth would be found out."""

    def load_data_list(self):
        data = super().load_data_list()
        for info in data:
            info['instances'] = [dict(bbox=[4, 8, 40, 60], bbox_label=1, ignore_flag=0)]
        return data


@MODELS.register_module()
class FindsTheOne(SingleStageDetector):
    """Finds the object of OneSided at its place, mirrored if the image is."""

    mirrored = 0

    def predict(self, batch_inputs, batch_data_samples, rescale=True):
        for sample in batch_data_samples:
            width = sample.ori_shape[1]
            box = torch.tensor([[4.0, 8.0, 40.0, 60.0]])
            if sample.get('flip'):
                FindsTheOne.mirrored += 1
                box[:, [0, 2]] = width - box[:, [2, 0]]
            sample.pred_instances = InstanceData(
                bboxes=box, scores=torch.tensor([0.9]), labels=torch.tensor([1])
            )
        return batch_data_samples


@pytest.mark.parametrize('ours', [True, False])
def test_test_time_augmentation_keeps_truths_and_boxes_together(run, monkeypatch, ours):
    arguments = [str(run / 'tiny.py'), str(run / 'out' / 'epoch_2.pth'), '--tta']
    arguments += ['--work-dir', str(run / 'tta'), '--cfg-options', 'model.type=FindsTheOne']
    arguments += ['test_dataloader.dataset.type=OneSided']
    monkeypatch.setattr(FindsTheOne, 'mirrored', 0)
    if ours:
        assert tool('test')(arguments)['coco/bbox_mAP'] == 1
        assert FindsTheOne.mirrored == 3  # of each image a view
        return
    script, found, test = mmdetections_tool('test'), {}, Runner.test
    monkeypatch.setattr(Runner, 'test', lambda self: found.update(test(self)))
    monkeypatch.setattr('sys.argv', [script, *arguments])
    runpy.run_path(script, run_name='__main__')
    assert found['coco/bbox_mAP'] == 1


def test_det_inferencer_gives_boxes_of_the_original_image(run):
    inferencer = DetInferencer(
        str(run / 'tiny.py'), str(run / 'out' / 'epoch_2.pth'), device='cpu', show_progress=False
    )
    images = [np.full((90, 200, 3), 90, np.uint8), np.full((300, 100, 3), 200, np.uint8)]
    result = inferencer(images, batch_size=2, pred_score_thr=0.0)
    for image, prediction in zip(images, result['predictions']):
        boxes = torch.tensor(prediction['bboxes'])
        assert len(boxes) > 0
        assert (boxes >= 0).all()
        height, width = image.shape[:2]
        assert (boxes[:, 2] <= width + 1e-3).all() and (boxes[:, 3] <= height + 1e-3).all()
        assert boxes[:, 2].max() > 0.5 * width  # and not in pixels of the network's input
    assert inferencer.visualizer.dataset_meta['classes'][0] == 'car'


def mmdetections_tool(name):
    path = Path(mmdet.__file__).parent / '.mim' / 'tools' / f'{name}.py'
    if not path.exists():
        pytest.skip('this MMDetection was installed without its tools')
    return str(path)


def test_mmdetections_own_train_py_needs_nothing_but_custom_imports(run, monkeypatch):
    script = mmdetections_tool('train')
    arguments = [str(run / 'tiny.py'), '--work-dir', str(run / 'own')]
    arguments += ['--cfg-options', 'train_cfg.max_epochs=1', 'default_hooks.checkpoint.interval=1']
    monkeypatch.setattr('sys.argv', [script, *arguments])
    runpy.run_path(script, run_name='__main__')
    assert (run / 'own' / 'epoch_1.pth').is_file()


def test_mmdetections_analysis_tools_read_our_logs(run, monkeypatch):
    script = mmdetections_tool('analysis_tools/analyze_logs')
    (log,) = (run / 'out').glob('*/vis_data/scalars.json')
    arguments = ['plot_curve', str(log), '--keys', 'loss_obj', '--style', 'default']
    arguments += ['--out', str(run / 'curve.png')]
    monkeypatch.setattr('sys.argv', [script, *arguments])
    runpy.run_path(script, run_name='__main__')
    assert (run / 'curve.png').stat().st_size > 1000


def test_the_demo_trains_in_mixed_precision_and_channels_last():
    cfg = Config.fromfile(ROOT / 'configs' / 'yolov2_fl.py')
    assert cfg.optim_wrapper.type == 'YOLOV2AmpOptimWrapper'
    assert 'ChannelsLastHook' in [hook.type for hook in cfg.custom_hooks]
