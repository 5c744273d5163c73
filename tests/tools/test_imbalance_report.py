import json

import cv2
import pytest
from mmdet.models import CrossEntropyLoss
from mmdet.registry import MODELS
from mmengine.config import Config

from mmdet_yolo2fl.imbalance import class_weights, suggested_alpha
from mmdet_yolo2fl.study import load_study

CONFIG = """
_base_ = ['{base}/configs/yolov2_fl.py']
data_root = '{root}'
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='CocoDataset',
        data_root='{root}',
        ann_file='train.json',
        data_prefix=dict(img=''),
        metainfo=dict(classes={classes}),
        pipeline=[dict(type='Resize', scale=(180, 120), keep_ratio=False)],
    )
)
model = dict(bbox_head=dict(num_classes=2))
"""


def config(tmp_path, data_root, classes=('red', 'blue')):
    from tests.tools.conftest import ROOT

    file = tmp_path / 'config.py'
    file.write_text(CONFIG.format(base=ROOT, root=data_root, classes=tuple(classes)))
    return file


def test_table_json_and_picture(tool, tmp_path, data_root, capsys):
    out = tmp_path / 'out'
    tool('imbalance_report')([str(config(tmp_path, data_root)), '--out', str(out)])
    printed = capsys.readouterr().out
    figures = json.loads((out / 'imbalance.json').read_text())
    # Four images with a square of 30 pixels each, doubled: 60 x 60, medium; 5 x 3 cells, 5 anchors.
    assert figures['images'] == 4 and figures['boxes_per_image'] == [1] * 4
    assert figures['classes']['red'] | dict(alpha=0) == dict(
        boxes=2,
        share=0.5,
        images=2,
        small=0,
        medium=2,
        large=0,
        effective_number_weight=1.0,
        inverse_frequency_weight=1.0,
        alpha=0,
    )
    assert figures['classes']['blue']['alpha'] == 0.25
    assert figures['predictions_per_image'] == 6 * 4 * 5
    assert figures['predictions_per_positive'] == 120
    assert '| red | 2 | 50.0% | 2 | 0 | 2 | 0 | 1.00 | 1.00 | 0.250 |' in printed
    # One loss of both, as it was measured.
    loss = "loss_obj=None, loss_cls=dict(_delete_=True, type='BalancedFocalLoss', use_sigmoid=True"
    assert f'    {loss}, gamma=2.0, alpha=[0.250, 0.250], loss_weight=4.0)\n' in printed
    assert (out / 'report.md').read_text().strip() in printed
    height, width = cv2.imread(str(out / 'imbalance.png')).shape[:2]
    assert width > 1000 and height > 300


def test_weights_of_classes_that_differ(tool, tmp_path, data_root):
    file = data_root / 'train.json'
    content = json.loads(file.read_text())
    ids = {one['name']: one['id'] for one in content['categories']}
    for number, one in enumerate(content['annotations']):
        one['category_id'] = ids['blue' if number == 0 else 'red']
    file.write_text(json.dumps(content))
    out = tmp_path / 'out'
    tool('imbalance_report')([str(config(tmp_path, data_root)), '--out', str(out)])
    classes = json.loads((out / 'imbalance.json').read_text())['classes']
    red, blue = classes['red'], classes['blue']
    assert (red['boxes'], blue['boxes']) == (3, 1)
    inverse = [one['inverse_frequency_weight'] for one in (red, blue)]
    assert inverse == pytest.approx([0.5, 1.5])
    ratio = blue['effective_number_weight'] / red['effective_number_weight']
    assert ratio == pytest.approx((1 - 0.999**3) / (1 - 0.999))
    for one in (red, blue):  # the odds of 0.25, times the weight
        odds = one['alpha'] / (1 - one['alpha'])
        assert odds == pytest.approx(one['effective_number_weight'] / 3)


def test_the_lines_for_the_config_are_of_the_options(tool, tmp_path, data_root, capsys):
    options = ['--beta', '0.9', '--alpha', '0.5', '--out', str(tmp_path / 'out')]
    tool('imbalance_report')([str(config(tmp_path, data_root)), *options])
    printed = capsys.readouterr().out
    assert 'gamma=2.0, alpha=[0.500, 0.500], loss_weight=4.0)' in printed
    assert 'gamma=2.0, alpha=0.5, class_weight=[1.00, 1.00], loss_weight=4.0)' in printed
    assert "[dict(type='ClassWeightHook', beta=0.9)]" in printed


def test_the_joint_lines_of_darknets_own_losses(tool, tmp_path, data_root, capsys):
    """Its scales would weigh the classes, and the IoU would be their label."""
    file = config(tmp_path, data_root)
    file.write_text(file.read_text().replace('configs/yolov2_fl.py', 'configs/yolov2.py'))
    tool('imbalance_report')([str(file), '--out', str(tmp_path / 'out')])
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    line = next(line for line in lines if line.startswith('loss_obj=None'))
    before = Config.fromfile(file).model.bbox_head
    assert before.object_scale == 5 and before.rescore
    with file.open('a') as stream:
        stream.write(f"\nmodel['bbox_head'] = dict({line})\n")
    head = MODELS.build(Config.fromfile(file).model.bbox_head)
    assert (head.object_scale, head.noobject_scale, head.rescore) == (1, 1, False)


def test_a_small_alpha_is_not_rounded_to_nothing(tool):
    """With alpha 0 the loss would leave the class out."""
    weights = class_weights([50000, 5], beta=0.9999)
    alphas = suggested_alpha(weights, 0.25)
    rows = [
        dict(alpha=float(alpha), effective_number_weight=float(weight))
        for alpha, weight in zip(alphas, weights)
    ]
    loss = dict(joint=False, head={}, background=False, options={}, hooks=False, only_alphas=True)
    figures = dict(loss=loss, classes=dict(enumerate(rows)), alpha=0.25, beta=0.9999)
    (line,) = tool('imbalance_report').__globals__['config_lines'](figures)
    written = [float(text) for text in line.split('alpha=[')[1].split(']')[0].split(',')]
    assert written == pytest.approx([float(alpha) for alpha in alphas], rel=0.01)
    assert 0 < written[0] < 0.0005


OF_OTHERS = """
_base_ = 'mmdet::{name}.py'
model = dict({change})
train_dataloader = dict(
    _delete_=True,
    batch_size=2,
    dataset=dict(
        type='CocoDataset',
        data_root='{root}',
        ann_file='train.json',
        data_prefix=dict(img=''),
        metainfo=dict(classes=('red', 'blue')),
        pipeline=[dict(type='Resize', scale=(180, 120), keep_ratio=False)],
    ),
)
"""


@pytest.mark.parametrize(
    'name, activation, reduction, loss_weight',
    [
        ('retinanet/retinanet_r18_fpn_1x_coco', 'sigmoid', 'mean', 1.0),
        ('yolox/yolox_tiny_8xb8-300e_coco', 'sigmoid', 'sum', 1.0),
        ('conditional_detr/conditional-detr_r50_8xb2-50e_coco', 'sigmoid', 'mean', 2.0),
        ('detr/detr_r50_8xb2-150e_coco', 'softmax', 'mean', 1.0),
        ('tood/tood_r50_fpn_1x_coco', 'none', 'mean', 1.0),
        ('faster_rcnn/faster-rcnn_r50_fpn_1x_coco', 'softmax', 'mean', 1.0),
        ('crowddet/crowddet-rcnn_r50_fpn_8xb2-30e_crowdhuman', 'softmax', 'none', 1.0),
    ],
)
def test_the_lines_for_other_detectors(
    tool, tmp_path, data_root, capsys, name, activation, reduction, loss_weight
):
    """They keep what the head needs of its loss, and build as they stand."""
    file = tmp_path / 'other.py'
    change = 'bbox_head=dict(num_classes=2)'
    change = f'roi_head=dict({change})' if 'rcnn' in name else change
    file.write_text(OF_OTHERS.format(name=name, change=change, root=data_root))
    tool('imbalance_report')([str(file), '--out', str(tmp_path / 'out')])
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    losses = [line for line in lines if line.startswith('loss_cls=dict(_delete_=True')]
    assert len(losses) == (1 if name.startswith('detr/') else 2)
    for line in losses:
        loss_cfg = eval(f'dict({line})')['loss_cls']
        del loss_cfg['_delete_']
        loss = MODELS.build(loss_cfg)
        assert (loss.activation, loss.reduction) == (activation, reduction)
        assert loss.loss_weight == loss_weight
        cfg = Config.fromfile(file)
        second = cfg.model.get('roi_head') or cfg.model
        second.bbox_head.loss_cls = loss_cfg
        head = MODELS.build(cfg.model.roi_head if 'roi_head' in cfg.model else cfg.model.bbox_head)
        assert any(type(module) is type(loss) for module in head.modules())
        by_class = loss.alpha if loss.class_weight is None else loss.class_weight
        assert by_class.numel() == (3 if activation == 'softmax' else 2)
    if name.startswith('detr/'):
        return
    (hooks,) = (line for line in lines if line.startswith('custom_hooks'))
    other = tmp_path / 'with_hook.py'
    other.write_text(f"_base_ = 'other.py'\n{hooks}\n")
    assert Config.fromfile(other).custom_hooks[-1].type == 'ClassWeightHook'


def test_a_study_of_the_losses(tool, refused, tmp_path, data_root, capsys):
    """Each of its rows is the config with the loss that it names."""
    main, file = tool('imbalance_report'), config(tmp_path, data_root)
    mine = tmp_path / 'studies/mine.py'
    main([str(file), '--out', str(tmp_path / 'out'), '--study', str(mine), '--alpha', '0.5'])
    assert f'python tools/study.py {mine}' in capsys.readouterr().out
    study = load_study(mine, tmp_path / 'runs')
    assert study.baseline == 'cross entropy' and len(study.runs) == 9
    first = [run for run in study.runs if run.seed == 0]
    heads = {run.row: MODELS.build(run.config.model.bbox_head) for run in first}
    plain, focal, joint = heads.values()
    losses = plain.loss_obj, focal.loss_obj, joint.loss_cls
    assert [loss.gamma for loss in losses] == [0, 2, 2]
    assert [loss.loss_weight for loss in losses] == [1, 4, 4]
    assert plain.loss_obj.alpha is None and focal.loss_obj.alpha == 0.25
    assert joint.loss_obj is None and joint.loss_cls.alpha.tolist() == [0.5, 0.5]
    assert all(type(head.loss_cls) is CrossEntropyLoss for head in (plain, focal))
    same = [run.config.model.backbone == first[0].config.model.backbone for run in first]
    assert all(same)
    assert 'is there already' in refused(main, file, '--study', mine)
    assert 'suffix .py' in refused(main, file, '--study', tmp_path / 'mine')
    options = '--study', tmp_path / 'b.py', '--cfg-options', 'model.bbox_head.prior_prob=0.1'
    assert '--cfg-options' in refused(main, file, *options)
    other = tmp_path / 'other.py'
    change = 'bbox_head=dict(num_classes=2)'
    name = 'retinanet/retinanet_r18_fpn_1x_coco'
    other.write_text(OF_OTHERS.format(name=name, change=change, root=data_root))
    # Darknet's losses and the joint one want more changed than the rows would.
    squared, joint = tmp_path / 'squared.py', tmp_path / 'joint.py'
    text = file.read_text()
    squared.write_text(text.replace('configs/yolov2_fl.py', 'configs/yolov2.py'))
    joint.write_text(text.replace('configs/yolov2_fl.py', 'configs/yolov2_joint_fl.py'))
    with joint.open('a') as stream:
        stream.write("\nmodel['bbox_head']['loss_cls'] = dict(alpha=[0.2, 0.3])\n")
    for wrong in (other, squared, joint):
        message = refused(main, wrong, '--study', tmp_path / 'b.py')
        assert 'a YOLOV2Head with BalancedFocalLoss on the objectness' in message
    assert not (tmp_path / 'b.py').exists()


def test_usage_errors(tool, refused, tmp_path, data_root):
    main = tool('imbalance_report')
    assert 'no such config' in refused(main, tmp_path / 'none.py')
    file = config(tmp_path, data_root)
    assert '--beta' in refused(main, file, '--beta', '1')
    assert '--input-size' in refused(main, file, '--input-size', '0', '5')
    # Of many scales it takes none for itself, but that of the test.
    many = "type='RandomChoiceResize', scales=[(180, 120), (90, 60)]"
    file.write_text(file.read_text().replace("type='Resize', scale=(180, 120)", many))
    main([str(file), '--out', str(tmp_path / 'at_test')])
    found = json.loads((tmp_path / 'at_test/imbalance.json').read_text())
    assert found['input_size'] == [416, 256]
    file.write_text(file.read_text() + '\ntest_dataloader = dict(_delete_=True)\n')
    assert 'no Resize step with one scale: give --input-size' in refused(main, file)
    main([str(file), '--input-size', '180', '120', '--out', str(tmp_path / 'out')])
    assert json.loads((tmp_path / 'out/imbalance.json').read_text())['input_size'] == [180, 120]
    (data_root / 'train.json').unlink()
    assert 'train.json' in refused(main, file)
