import csv
import itertools
import shutil
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config

from mmdet_yolo2fl.engine import YOLOV2AmpOptimWrapper
from mmdet_yolo2fl.measure import machine, use
from mmdet_yolo2fl.models.backbones.darknet import Darknet19
from tests.tools.conftest import ROOT, load_tool

CONFIG = """
_base_ = ['{root}/configs/{base}.py']
model = dict(
    backbone=dict(widen_factor=0.125),
    neck=dict(in_channels=(64, 128), out_channels=32, passthrough_channels=8),
    bbox_head=dict(in_channels=64, feat_channels=32, **{head}),
)
"""


def write(tmp_path, name, base='yolov2_fl', **head):
    file = tmp_path / f'{name}.py'
    file.write_text(CONFIG.format(root=ROOT, base=base, head=head))
    return str(file)


def run(tool, tmp_path, *args):
    out = tmp_path / 'out'
    tool('benchmark')(
        [*args, '--size', '96', '64', '--batch', '2', '--repeat', '1', '--out', str(out)]
    )
    return out, list(csv.DictReader((out / 'benchmark.csv').open()))


def test_table_of_two_configs(tool, tmp_path):
    files = [write(tmp_path, 'focal'), write(tmp_path, 'squared', 'yolov2')]
    out, rows = run(tool, tmp_path, *files, '--modes', 'float32', 'amp, channels_last')
    names = [(row['config'], row['mode']) for row in rows]
    modes = ('float32', 'amp, channels_last')
    assert names == [(name, mode) for name in ('focal', 'squared') for mode in modes]
    for row in rows:
        for key in (
            *('network_ms', 'network_images_s', 'prediction_ms', 'images_s'),
            *('step_ms', 'memory_mb', 'gflops'),
        ):
            assert float(row[key]) > 0, key
        assert 0 < float(row['loss_share']) < 1
    # The losses have no weights.
    assert len({row['parameters_m'] for row in rows}) == 1
    assert '| focal | float32 |' in (out / 'benchmark.md').read_text()
    assert (out / 'benchmark.png').stat().st_size > 10_000


def test_one_that_fails_leaves_the_others(tool, tmp_path):
    files = [write(tmp_path, 'bad', normalizer='none_such'), write(tmp_path, 'good')]
    with pytest.raises(SystemExit, match='1 failed.*none_such'):
        run(tool, tmp_path, *files)
    rows = list(csv.DictReader((tmp_path / 'out/benchmark.csv').open()))
    assert [row['config'] for row in rows] == ['good']
    assert 'bad, float32 failed' in (tmp_path / 'out/benchmark.md').read_text()


def test_what_fails_of_a_detector_leaves_the_rest(tool, tmp_path):
    file = tmp_path / 'no_nms.py'
    base = write(tmp_path, 'focal')
    file.write_text(f"_base_ = {base!r}\nmodel = dict(test_cfg=dict(nms=dict(type='none_such')))\n")
    with pytest.raises(SystemExit, match='2 failed.*none_such'):
        run(tool, tmp_path, str(file), base)
    out = tmp_path / 'out'
    failed, whole = csv.DictReader((out / 'benchmark.csv').open())
    assert not failed['prediction_ms'] and not failed['images_s']
    assert {key for key in whole if whole[key] and not failed[key]} == {'prediction_ms', 'images_s'}
    text = (out / 'benchmark.md').read_text()
    assert 'no_nms, float32, whole prediction (ms) failed: ' in text
    # Such a table can have accuracies, too; the picture shows those that can predict.
    table = tmp_path / 'study.csv'
    rows = ''.join(f'{name},0,1,1,1,0.5,0.2\n' for name in ('focal', 'no_nms'))
    table.write_text(f'row,seed,minutes,images,parameters,AP50,AP\n{rows}')
    times = ['--times', str(out / 'benchmark.csv'), '--study', str(table)]
    tool('benchmark')([*times, '--out', str(tmp_path / 'again')])
    again = list(csv.DictReader((tmp_path / 'again/benchmark.csv').open()))
    assert again == [row | dict(AP50='0.5', AP='0.2') for row in (failed, whole)]


# Eight proposals, heads of 16 channels.
TWO_STAGES = """
_base_ = '{root}/configs/yolov2.py'
from mmengine.hub import get_config

model = get_config('mmdet::mask_rcnn/mask-rcnn_r18_fpn_8xb8-amp-lsj-200e_coco.py').model
model.backbone.init_cfg = None
model.roi_head.bbox_head.update(num_classes=4, fc_out_channels=16)
model.roi_head.mask_head.update(num_classes=4, num_convs=1, conv_out_channels=16)
model.train_cfg.rpn_proposal.max_per_img = 8
model.test_cfg.rpn.max_per_img = 8
model._delete_ = True
_pipeline = [dict(type='LoadAnnotations', with_bbox=True, with_mask=True)]
train_dataloader = dict(dataset=dict(pipeline=_pipeline))
"""


def test_detectors_of_two_stages_with_masks(tool, tmp_path):
    file = tmp_path / 'two_stages.py'
    file.write_text(TWO_STAGES.format(root=ROOT))
    main = tool('benchmark')
    losses = []

    class Contestant(main.__globals__['Contestant']):
        def timed(self, function):
            losses.append(function.__qualname__)
            return super().timed(function)

    main.__globals__['Contestant'] = Contestant
    _, (row,) = run(lambda _: main, tmp_path, str(file))
    assert 0 < float(row['loss_share']) < 1
    assert 'RPNHead.loss_by_feat' in losses
    assert 'BBoxHead.loss_and_target' in losses
    assert 'FCNMaskHead.loss_and_target' in losses


def test_only_who_trains_with_masks_gets_them(tool):
    loads_masks = tool('benchmark').__globals__['loads_masks']
    load = dict(type='LoadAnnotations', with_bbox=True)
    assert not loads_masks(dict(dataset=dict(pipeline=[load, dict(type='PackDetInputs')])))
    load['with_mask'] = True
    assert loads_masks(dict(dataset=dict(dataset=dict(pipeline=(dict(type='A'), load)))))


def test_losses_within_losses_count_once(tool, monkeypatch):
    parts = tool('benchmark').__globals__
    # A second goes by from one look at the clock to the next.
    monkeypatch.setattr('time.perf_counter', itertools.count(0.0).__next__)
    contestant = object.__new__(parts['Contestant'])
    contestant.device, contestant.in_losses, contestant.in_loss = 'cpu', False, [[(1.0, 9.0)], []]
    one = contestant.timed(lambda: None)
    contestant.timed(lambda: [one(), one()])()
    assert contestant.loss_ms(1) == [1000.0]
    one()
    assert contestant.loss_ms(2) == [8000.0, 2000.0]


def test_the_steps_of_a_cpu_beside_a_gpu(tool, tmp_path, monkeypatch):
    """MMEngine would take the GPU's mixed precision, which leaves a CPU in float32."""
    parts = tool('benchmark').__globals__
    monkeypatch.setattr('mmengine.device.utils.DEVICE', 'cuda')
    # Nor does one that only emulates bfloat16 stay in float32, as its training would.
    monkeypatch.setattr(f'{YOLOV2AmpOptimWrapper.__module__}.has_fast_bfloat16', lambda: False)
    file = write(tmp_path, 'focal')
    options = ['--device', 'cpu', '--size', '96', '64', '--batch', '2']
    args = parts['parse_args']([file, *options])
    use(args.device)
    contestant = parts['Contestant'](file, 'amp', '-', args)
    seen = []
    conv = next(m for m in contestant.model.modules() if isinstance(m, torch.nn.Conv2d))
    conv.register_forward_hook(lambda _, inputs, output: seen.append(output.dtype))
    contestant.step()
    assert seen == [torch.bfloat16]


def test_number_of_classes(tool):
    model = torch.nn.Module()
    for name, number in dict(backbone=1000, rpn_head=1, roi_head=7).items():
        part = torch.nn.Module()
        part.num_classes = number
        model.add_module(name, part)
    assert tool('benchmark').__globals__['number_of_classes'](model) == 7


def test_a_network_that_needs_truths_is_refused(tool, tmp_path):
    file = tmp_path / 'yolact.py'
    file.write_text("_base_ = 'mmdet::yolact/yolact_r50_1xb8-55e_coco.py'\n")
    with pytest.raises(SystemExit, match='1 failed.*yolact.*only with truths'):
        run(tool, tmp_path, str(file))


def test_accuracy_from_a_study(tool, tmp_path):
    table = tmp_path / 'study.csv'
    table.write_text(
        'row,seed,minutes,images,parameters,AP50,AP\n'
        'focal,0,1,1,1,0.5,0.2\nfocal,1,1,1,1,0.7,0.4\nother,0,1,1,1,0.9,0.9\n'
    )
    out, rows = run(tool, tmp_path, write(tmp_path, 'focal'), '--study', str(table))
    assert float(rows[0]['AP50']) == pytest.approx(0.6)
    assert '| 0.600 | 0.300 |' in (out / 'benchmark.md').read_text()


def test_checkpoints_are_evaluated_in_the_precision_of_the_mode(
    tool, tmp_path, squares, monkeypatch
):
    parts, seen = tool('benchmark').__globals__, set()
    forward = Darknet19.forward

    def look(self, images):
        seen.add(torch.is_autocast_enabled('cpu'))
        return forward(self, images)

    monkeypatch.setattr(Darknet19, 'forward', look)
    config, checkpoint = map(str, squares)
    arguments = SimpleNamespace(
        accuracies={},
        study=None,
        configs=[config],
        names=['a'],
        checkpoints=[checkpoint],
        size=None,
    )
    for modes, amp in ((['float32', 'channels_last'], False), (['amp, channels_last'], True)):
        rows = [dict(config='a', mode=mode) for mode in modes]
        assert not parts['add_accuracy'](arguments, rows)
        assert seen == {amp} and all('AP50' in row for row in rows)
        seen.clear()


def test_a_broken_checkpoint_is_named_and_the_others_go_on(tool, tmp_path):
    broken = tmp_path / 'broken.pth'
    broken.write_bytes(b'no checkpoint')
    files = [write(tmp_path, 'focal'), write(tmp_path, 'squared', 'yolov2')]
    with pytest.raises(SystemExit, match='1 failed.*focal, float32.*broken.pth'):
        run(tool, tmp_path, *files, '--checkpoints', str(broken), '-')
    (row,) = csv.DictReader((tmp_path / 'out/benchmark.csv').open())
    assert row['config'] == 'squared' and float(row['step_ms']) > 0 and not row['AP50']


def test_one_evaluation_after_the_other(tool, tmp_path, squares):
    evaluate = tool('benchmark').__globals__['evaluate']
    found = []
    for name in ('first', 'second'):
        folder = tmp_path / name
        found.append(evaluate(*squares, folder, (96, 64)))
        shutil.rmtree(folder)
    assert found[0] == found[1] and {*found[0]} == {'AP50', 'AP'}


def test_a_config_of_a_resumed_training(tool, tmp_path, squares):
    """MMEngine would resume in the test too, which runs what a checkpoint calls its config."""
    evaluate = tool('benchmark').__globals__['evaluate']
    config, checkpoint = squares
    resumed, other = tmp_path / 'resumed.py', tmp_path / 'other.pth'
    resumed.write_text(f'_base_ = {str(config)!r}\nresume = True\n')
    meta = dict(epoch=1, iter=1, config=f"open({str(tmp_path / 'ran')!r}, 'w')")
    torch.save(dict(state_dict=torch.load(checkpoint), meta=meta), other)
    found = [evaluate(resumed, file, tmp_path / 'out') for file in (checkpoint, other)]
    assert found[0] == found[1] and not (tmp_path / 'ran').exists()


def test_a_folder_that_takes_no_files(tool, refused, tmp_path, monkeypatch):
    main = tool('benchmark')

    def full(dir):
        raise PermissionError(13, 'Permission denied', str(dir))

    monkeypatch.setattr('mmdet_yolo2fl.whole_files.TemporaryFile', full)
    monkeypatch.setitem(main.__globals__, 'measure', None)
    config = write(tmp_path, 'focal')
    assert 'Permission denied' in refused(main, config, '--out', tmp_path / 'out')


def test_an_evaluation_without_ap50(tool, tmp_path, squares, monkeypatch):
    evaluate = tool('benchmark').__globals__['evaluate']
    for metrics, found in (({}, dict(AP50=0.0, AP=0.0)), ({'lvis/bbox_AP': 0.3}, None)):
        runner = SimpleNamespace(test=lambda metrics=metrics: metrics)
        monkeypatch.setattr(
            evaluate.__globals__['Runner'], 'from_cfg', lambda cfg, runner=runner: runner
        )
        if found:
            assert evaluate(*squares, tmp_path / 'a') == found
        else:
            with pytest.raises(ValueError, match="no AP50 among the metrics .'lvis/bbox_AP'"):
                evaluate(*squares, tmp_path / 'a')


def test_a_preprocessor_that_knows_no_augmentation(tool):
    without = load_tool('benchmark').__globals__['without_batch_augments']
    model = Config(
        dict(model=dict(detector=dict(data_preprocessor=dict(batch_augments=[1])), backbone=dict()))
    ).model
    model.data_preprocessor = dict(type='MultiBranchDataPreprocessor')
    without(model)
    assert model.detector.data_preprocessor.batch_augments is None
    assert model.data_preprocessor == dict(type='MultiBranchDataPreprocessor')


def test_the_size_of_evaluation_and_timing():
    resized = load_tool('benchmark').__globals__['resized']
    steps = [dict(type='LoadImageFromFile'), dict(type='mmdet.Resize', scale=(9, 9))]
    steps += [dict(type='Pad', size=(9, 9)), dict(type='RandomCenterCropPad')]
    assert resized(steps, None) == steps
    scaled = [step.get('scale') for step in resized(steps, [32, 64])]
    assert scaled == [None, (32, 64), None]
    letterbox = dict(type='DarknetResize', scale=(9, 9), letterbox=True)
    assert resized([letterbox], [32, 64]) == [dict(letterbox, scale=(32, 64))]


def test_the_machine_names_its_instructions():
    assert f', {torch.backends.cpu.get_cpu_capability()}, ' in machine('cpu')


def test_the_gpu_that_is_measured(monkeypatch):
    """``cuda`` is the current one, which PyTorch refuses to choose once more."""
    chosen = []
    monkeypatch.setattr(torch.cuda, 'set_device', chosen.append)
    monkeypatch.setattr('mmengine.device.utils.DEVICE', 'cpu')  # is put back afterwards
    for device in ('cpu', 'cuda', 'cuda:1'):
        use(device)
    assert chosen == [torch.device('cuda:1')]


def test_a_detector_of_grey_images(tool, tmp_path, squares):
    parts = tool('benchmark').__globals__
    parts['init_default_scope']('mmdet')
    cfg = Config.fromfile(squares[0])
    cfg.test_dataloader.dataset.pipeline[0].color_type = 'grayscale'
    pipeline = parts['Compose'](parts['array_pipeline'](cfg, None))
    sample = pipeline(dict(img=np.zeros((30, 60, 3), np.uint8), img_id=0))
    assert sample['inputs'].shape == (1, 64, 96)


def test_the_head_hears_of_the_letterbox(tool):
    parts = tool('benchmark').__globals__
    parts['init_default_scope']('mmdet')
    cfg = Config.fromfile(ROOT / 'configs/voc0712/yolov2_faithful.py')
    pipeline = parts['Compose'](parts['array_pipeline'](cfg, None))
    sample = pipeline(dict(img=np.zeros((30, 60, 3), np.uint8), img_id=0))['data_samples']
    assert sample.pad_offset == (0, 104)


def test_names_of_detectors(tool, refused, tmp_path):
    main = tool('benchmark')
    names_of = main.__globals__['names_of']
    assert names_of([Path('a.py'), Path('b.py')], None) == ['a', 'b']
    assert names_of([Path('x/a.py'), Path('y/a.py')], None) == ['x/a.py', 'y/a.py']
    assert names_of(2 * [Path('a.py')], ['b.pth', 'c.pth']) == ['a.py, b', 'a.py, c']
    assert names_of(2 * [Path('a.py')], ['-', '-']) == ['a.py, - (1)', 'a.py, - (2)']
    file = write(tmp_path, 'focal')
    message = refused(main, file, file, '--names', 'a', 'a')
    assert '--names: each detector needs a name' in message
    (tmp_path / 'bad.csv').write_text('x\n1\n')
    assert 'bad.csv, line 2' in refused(main, file, '--study', tmp_path / 'bad.csv')


def test_accuracies_of_voc(tool, tmp_path):
    table = tmp_path / 'study.csv'
    about = 'row,seed,minutes,images,parameters'
    table.write_text(f'{about},pascal_voc/AP50,pascal_voc/mAP\na,0,1,1,1,0.5,0.2\nb,0,1,1,1,,\n')
    # The mean of VOCMetric is over its thresholds, here 0.5 alone.
    assert tool('benchmark').__globals__['accuracies'](table) == {'a': {'AP50': 0.5}}


def test_an_evaluation_that_fails_does_not_cost_the_times(tool, tmp_path, squares):
    config, checkpoint = map(str, squares)
    lost = tmp_path / 'lost.py'
    lost.write_text(f"_base_ = {config!r}\ntest_dataloader = dict(dataset=dict(ann_file='none'))\n")
    with pytest.raises(SystemExit, match='1 failed.*lost, float32, accuracy.*none'):
        run(tool, tmp_path, str(lost), '--checkpoints', checkpoint)
    (row,) = csv.DictReader((tmp_path / 'out/benchmark.csv').open())
    assert float(row['step_ms']) > 0 and not row['AP50']


def test_weights_and_images_of_the_user(tool, squares, data_root):
    """The training steps leave them as they are, and the images take turns."""
    parts = tool('benchmark').__globals__
    config, checkpoint = map(str, squares)
    images = [str(data_root / f'{number}.png') for number in (1, 2, 3)]
    arguments = [config, '--batch', '2', '--device', 'cpu', '--images', *images]
    contestant = parts['Contestant'](config, 'float32', checkpoint, parts['parse_args'](arguments))
    for function in (*parts['FUNCTIONS'], 'prediction'):
        getattr(contestant, function)()
    assert (next(contestant.pictures) == cv2.imread(images[2])).all()
    batch = contestant.picture_batch['inputs']
    assert len(batch) == 2 and not torch.equal(*batch)
    weights = torch.load(checkpoint, weights_only=True)
    found = contestant.model.state_dict()
    changed = {key for key in weights if not torch.equal(weights[key], found[key])}
    # What counts the training steps shows that there were any.
    counters = {key for key in weights if key.endswith(('num_batches_tracked', '.seen'))}
    assert changed == counters


@pytest.mark.parametrize(
    'near',
    [
        [('a', 150, 0.915), ('cells of 16 pixels', 200, 0.923), ('YOLOX-tiny', 211, 0.923)],
        # To the left the second would leave the picture.
        [
            ('YOLOv2, cells of 16 pixels, focal', 64, 0.916),
            ('YOLOv2, half as wide, cells of 16 pixels, focal', 142, 0.921),
            ('YOLOX-tiny', 211, 0.9233),
            ('SSD300', 1972, 0.918),
            ('YOLOv3, Darknet-53', 1194, 0.889),
        ],
        # Flat, the third of them far from its point.
        [
            ('YOLOv2, cells of 16 pixels, focal', 64, 0.9164),
            ('YOLOv2, half as wide, cells of 16 pixels, focal', 142, 0.921),
            ('YOLOX-tiny', 211, 0.9233),
            ('YOLOv2, cross entropy', 88, 0.9053),
            ('RTMDet-tiny', 389, 0.8874),
            ('SSD300', 1972, 0.918),
        ],
    ],
)
def test_names_in_the_picture_hide_nothing(tool, near):
    rows = [dict(config=c, mode='float32', prediction_ms=t, AP50=v) for c, t, v in near]
    figure = tool('benchmark').__globals__['draw'](rows)
    (axis,) = figure.axes
    boxes = [text.get_window_extent() for text in axis.texts]
    points = [axis.transData.transform((time, 100 * value)) for _, time, value in near]
    assert {text.get_text() for text in axis.texts} == {name for name, *_ in near}
    assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[:i])
    assert not any(box.contains(*point) for box in boxes for point in points)
    frame = axis.get_window_extent()
    assert all(frame.x0 <= box.x0 and box.x1 <= frame.x1 for box in boxes)
    assert all(frame.y0 <= box.y0 and box.y1 <= frame.y1 for box in boxes)


def test_a_name_for_which_there_is_no_room_stays_near(tool):
    rows = [dict(config=100 * 'long ', mode='float32', prediction_ms=5.0, AP50=0.5)]
    (axis,) = tool('benchmark').__globals__['draw'](rows).axes
    assert axis.texts[0].get_position() == (0, 8)


def test_bars_without_accuracies(tool):
    rows = [dict(config='a', mode='float32', prediction_ms=12.34, step_ms=5.0, memory_mb=7.0)]
    rows += [dict(config='b', mode='amp', step_ms=2000.0, memory_mb=3.0)]
    figure = tool('benchmark').__globals__['draw'](rows)
    figure.draw_without_rendering()
    for axis, values in zip(figure.axes, ([12.34, 0], [5, 2000], [7, 3])):
        assert [bar.get_width() for bar in axis.patches] == values
        tops = [bar.get_window_extent().y1 for bar in axis.patches]
        assert tops[0] > tops[1]
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == ['a', 'b, amp']
    assert [text.get_text() for text in figure.axes[0].texts] == ['12.3', 'failed']


def test_usage_errors(tool, refused, tmp_path):
    main = tool('benchmark')
    assert 'no such config' in refused(main, tmp_path / 'none.py')
    file = write(tmp_path, 'focal')
    assert '--names: 2 for 1' in refused(main, file, '--names', 'a', 'b')
    assert '--batch' in refused(main, file, '--batch', '0')
    message = refused(main, file, '--images', file, tmp_path / 'none.jpg')
    assert 'no image that OpenCV reads' in message and 'focal.py, ' in message


def test_accuracies_for_earlier_times(tool, refused, tmp_path, capsys):
    out, before = run(tool, tmp_path, write(tmp_path, 'focal'))
    table = tmp_path / 'study.csv'
    table.write_text('row,seed,minutes,images,parameters,AP50,AP\nfocal,0,1,1,1,0.5,0.2\n')
    times = ['--times', str(out / 'benchmark.csv'), '--study', str(table)]
    first_line = (out / 'benchmark.md').read_text().splitlines()[0]
    tool('benchmark')([*times, '--out', str(tmp_path / 'again')])
    (row,) = csv.DictReader((tmp_path / 'again/benchmark.csv').open())
    assert row == before[0] | dict(AP50='0.5', AP='0.2')
    assert (tmp_path / 'again/benchmark.md').read_text().splitlines()[0] == first_line
    table.write_text(table.read_text().replace('focal', 'other'))
    capsys.readouterr()
    tool('benchmark')([*times, '--out', str(tmp_path / 'again')])
    assert "has no rows named ['focal']; it has ['other']" in capsys.readouterr().out
    main = tool('benchmark')
    assert 'needs --study' in refused(main, *times[:2])
    assert 'either config files or --times' in refused(main, 'a.py', *times)
    with pytest.raises(SystemExit, match='study.csv: no table of tools/benchmark.py'):
        main(['--times', str(table), '--study', str(table)])


def test_what_the_figures_stand_for(tool, tmp_path, monkeypatch):
    monkeypatch.setattr(f'{YOLOV2AmpOptimWrapper.__module__}.has_fast_bfloat16', lambda: True)
    parts, seen = tool('benchmark').__globals__, []
    arguments = [write(tmp_path, 'a'), '--batch', '3', '--size', '96', '64', '--device', 'cpu']
    args = parts['parse_args'](arguments)
    for mode, dtype in (('float32', torch.float32), ('amp', torch.bfloat16)):
        one = parts['Contestant'](args.configs[0], mode, '-', args)
        one.model.backbone.register_forward_hook(
            lambda _, inputs, outputs: seen.append((len(inputs[0]), outputs[-1].dtype))
        )
        for look in (one.network, one.network_throughput, one.step):
            look()
        assert seen[-3:] == [(1, dtype), (3, dtype), (3, dtype)]
    parts['alternate'] = lambda works, *_, **__: {key: [10.0, 40.0, 20.0] for key in works}
    (row,), _ = parts['measure'](args)
    assert row['step_ms'] == 20 and row['images_s'] == row['network_images_s'] == 150
