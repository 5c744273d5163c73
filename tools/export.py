"""Exports a YOLOv2, and checks every file against PyTorch on real images.

python tools/export.py CONFIG CHECKPOINT --out exported
python tools/export.py CONFIG CHECKPOINT --formats onnx --size 320 256 --images photos/

Writes into --out, with the name of the config:
  NAME.onnx       the network: one image to the prediction map (Darknet's order of channels)
  NAME_dynamic.onnx   the same for any batch and size
  NAME_nms.onnx   with decoding and suppression inside: boxes, scores, labels, image
  NAME.pt2        torch.export, decoded: boxes and scores of all slots, before suppression
  NAME.cfg, .weights, .names    for Darknet (OpenCV's DNN module wants another thresh: there take
                  tools/mmdet2darknet.py --for-opencv, or NAME.onnx)
  NAME.json       classes, anchors, preprocessing, thresholds: what a program must know to run them

Batch normalization is folded into the convolutions, except for Darknet, which has its own.
NAME.onnx is for one image of one size and has no tensor of more than four dimensions, as OpenCV
and small processors want it; the other ONNX files and torch.export leave batch and size (multiples
of 32) free, hence there is only NAME.onnx for 320x240 (configs/edge). A file that does not find the
boxes of PyTorch (scores and corners to 1e-4) is an error.
"""

import sys

try:
    from mmdet_yolo2fl.command_line import add_config_options, check_data, read_config
    from mmdet_yolo2fl.config_parts import type_name, unwrapped
except ImportError as error:
    if error.name == 'mmdet_yolo2fl':
        sys.exit(
            'The package is not installed in this Python: `source .venv/bin/activate` after '
            '`make env` in its checkout, or `pip install -e .` there'
        )
    sys.exit(str(error))

import argparse
import importlib.util
import json
import tempfile
from copy import deepcopy
from functools import partial
from pathlib import Path

import torch
from mmcv.transforms import Compose
from mmdet.registry import DATASETS
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope
from mmengine.utils import digit_version, to_2tuple

from mmdet_yolo2fl import export
from mmdet_yolo2fl.darknet import darknet_to_mmdet, mmdet_to_darknet, resize_note
from mmdet_yolo2fl.export.check import onnx_runner, predict_by_pytorch, torch_runner
from mmdet_yolo2fl.inference import find_sources, reading_flag
from mmdet_yolo2fl.inference.sources import read_image
from mmdet_yolo2fl.resizing import how_resized, resize_to
from mmdet_yolo2fl.whole_files import write_text

FORMATS = ('onnx', 'onnx-dynamic', 'onnx-nms', 'torch', 'darknet')


def make_parser():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file')
    parser.add_argument(
        'checkpoint', help='checkpoint file or address; refused if it could run code'
    )
    parser.add_argument('--out', type=Path, default=Path('work_dirs/exported'), help='folder')
    parser.add_argument(
        '--formats', nargs='+', choices=FORMATS, help='default: all that the detector allows'
    )
    parser.add_argument('--name', help='of the files (default: that of the config)')
    parser.add_argument(
        '--size',
        type=int,
        nargs=2,
        metavar=('WIDTH', 'HEIGHT'),
        help="of the input, for the JSON and the check (default: the test pipeline's)",
    )
    parser.add_argument(
        '--images', nargs='+', help="images for the check (default: of the config's test set)"
    )
    parser.add_argument('--num-images', type=int, default=4, help='of them (default: 4)')
    parser.add_argument('--no-fuse', action='store_true', help='keep batch normalization apart')
    add_config_options(parser)
    return parser


def check_arguments(args, parser):
    args.all = args.formats is None
    args.formats = args.formats or FORMATS
    onnx = any(name.startswith('onnx') for name in args.formats)
    for name in ('onnx', 'onnxscript', 'onnxruntime') if onnx else ():
        if importlib.util.find_spec(name) is None:
            parser.error(
                f"ONNX needs {name}: pip install 'mmdet_yolo2fl[export]', or leave ONNX out: "
                '--formats torch darknet'
            )
    if digit_version(torch.__version__) < digit_version('2.5') and {*args.formats} != {'darknet'}:
        parser.error(f'PyTorch {torch.__version__} cannot write these: --formats darknet')
    if args.num_images < 1:
        parser.error('--num-images must be at least 1')
    if args.name and Path(args.name).name != args.name:
        parser.error(f'--name {args.name!r}: the folder is --out')
    if args.size and min(args.size) < 32:
        parser.error(f'--size must be 32 or more, got {args.size[0]} {args.size[1]}')


def check_size(args, cfg):
    """A network pads its images to multiples of 32 or, as some in configs/edge, it does not."""
    divisor = cfg.model.data_preprocessor.get('pad_size_divisor', 1)
    if args.size and any(side % divisor for side in args.size):
        raise ValueError(
            f'--size must be multiples of {divisor}, got {args.size[0]} {args.size[1]}'
        )


def fixed_size_only(args, size, stride):
    """Leave out the formats that need multiples of 32, or refuse them if they were asked for.

    Darknet's files need multiples of the cells.
    """
    if not any(side % 32 for side in size):
        return
    fit = ('onnx', 'darknet') if not any(side % stride for side in size) else ('onnx',)
    others = [name for name in args.formats if name not in fit]
    text = f'{size[0]}x{size[1]} is no multiple of 32: there is no {", ".join(others)}'
    if others and not args.all:
        raise ValueError(f'{text}; --formats {" ".join(fit)}')
    args.formats = tuple(name for name in args.formats if name in fit)
    if others:
        print(text)


def load_images(args, cfg, detector):
    """Batches of one image each, as the network gets them, the names of the classes, and the file
    of the first image.

    Raises:
        ValueError: If there are none, or if a program could not make them from what it is told.
    """
    dataset_cfg = unwrapped(deepcopy(cfg.test_dataloader.dataset))
    if args.images:
        dataset_cfg['lazy_init'] = True
        classes = DATASETS.build(dataset_cfg).metainfo['classes']
        steps = [s for s in dataset_cfg.pipeline if type_name(s) != 'LoadAnnotations']
        pipeline = Compose(steps)
        sources = [s for s in find_sources(args.images) if s.kind == 'image']
        samples = [export.loaded(pipeline, s.path) for s in sources[: args.num_images]]
    else:
        dataset = DATASETS.build(dataset_cfg)
        classes = dataset.metainfo['classes']
        samples = [dataset[index] for index in range(min(args.num_images, len(dataset)))]
    if not samples:
        raise ValueError('there is no image to check with: give some by --images')
    batches = export.as_inputs(detector, samples)
    check_not_padded(dataset_cfg.pipeline, batches[0].shape[:1:-1], how_resized(cfg)['resize'])
    return batches, names_of(detector, classes), samples[0]['data_samples'].get('img_path', '')


def check_description(cfg, description, photo, made):
    """Refuse a test pipeline that a program could not repeat from what it is told."""
    flag = reading_flag(cfg)
    if flag != 'unchanged' and Path(photo).is_file():
        export.check_description(description, read_image(photo, flag), made)


def check_not_padded(pipeline, size, resize):
    """Refuse what a program, which is told to stretch images, would bring to its size otherwise.

    By the network, to multiples of its ``pad_size_divisor``, or by a step ``Pad``.
    """
    scales = [step.get('scale') for step in pipeline if type_name(step).endswith('Resize')]
    if resize != 'stretch' or not scales[-1]:
        return
    width, height = to_2tuple(scales[-1])
    if (width, height) != tuple(size):
        raise ValueError(
            f'images are padded from {width}x{height} to {size[0]}x{size[1]}, and a program would '
            'stretch them to that: take a size of whole multiples of pad_size_divisor without a '
            'step Pad, or a network that needs none (configs/edge)'
        )


def names_of(detector, classes):
    """The classes as the checkpoint has them, which it was trained with; else the config's."""
    meta = detector.dataset_meta
    trained = meta.get('classes') or meta.get('CLASSES') or ()
    if len(trained) != detector.bbox_head.num_classes or list(trained) == list(classes):
        return classes
    print(f'The checkpoint was trained with {list(trained)}: these names, not {list(classes)}')
    return trained


def suppress_plainly(test_cfg):
    """Where the detector has soft NMS, which neither ONNX nor Darknet has: plain NMS instead."""
    nms = test_cfg.nms
    iou = export.suppression_iou(nms)
    if nms.get('type', 'nms') != 'nms':
        print(
            f'{nms.type}: the files are checked with plain NMS at {iou}, and '
            'NAME_nms.onnx contains that; the others leave the choice to you'
        )
    among_all = nms.get('class_agnostic', False)
    test_cfg.nms = ConfigDict(type='nms', iou_threshold=iou, class_agnostic=among_all)


def suppression_within_classes(args, test_cfg):
    """ONNX has no other: leave out the file that contains it, or refuse it if it was asked for."""
    if 'onnx-nms' not in args.formats or not test_cfg.nms.get('class_agnostic'):
        return
    text = 'class_agnostic: ONNX suppresses within each class, there is no onnx-nms'
    if not args.all:
        raise ValueError(f'{text}; --formats with others')
    args.formats = tuple(name for name in args.formats if name != 'onnx-nms')
    print(text)


def write_and_check(args, cfg, detector, name, batches, size):
    """Write the files; (file, Comparison, images) of each."""
    for kind in args.formats:
        network = export.DecodedNetwork(detector)
        if kind == 'onnx':
            path = args.out / f'{name}.onnx'
            export.export_onnx(export.RawNetwork(detector), path, size)
        elif kind == 'onnx-dynamic':
            path = args.out / f'{name}_dynamic.onnx'
            export.export_onnx(export.RawNetwork(detector), path, size, dynamic=True)
        elif kind == 'onnx-nms':
            path = args.out / f'{name}_nms.onnx'
            export.export_onnx_with_nms(network, path, size, detector.bbox_head.test_cfg)
        elif kind == 'torch':
            path = args.out / f'{name}.pt2'
            export.export_torch(network, path, size)
        else:
            continue
        runner = torch_runner if kind == 'torch' else onnx_runner
        # The file of fixed shapes takes images of its own size only.
        fitting = [b for b in batches if kind != 'onnx' or b.shape[-2:] == batches[0].shape[-2:]]
        yield path, export.compare(detector, runner(path, detector), fitting), len(fitting)


def darknet_and_back(args, cfg, detector, name, batches, size):
    """Write Darknet's files; they are read again, as Darknet would, and compared."""
    paths = mmdet_to_darknet(cfg, args.checkpoint, args.out, input_size=size, name=name)
    with tempfile.TemporaryDirectory() as folder:
        config, checkpoint = darknet_to_mmdet(*paths[:2], Path(folder))
        again = export.load_yolov2(Config.fromfile(config), checkpoint, fuse=False)
    again.bbox_head.test_cfg = detector.bbox_head.test_cfg
    return paths, export.compare(detector, partial(predict_by_pytorch, again), batches)


def report(path, found, number):
    print(
        f'{path}: {found.boxes} boxes in {number} images, largest difference of scores '
        f'{found.score:.1e}, of corners {found.box:.1e} of the size'
        + (f', {found.unmatched} boxes unmatched' if found.unmatched else '')
    )
    if not found.boxes:
        print('  no box reached the score threshold: nothing was compared')


def main(args=None):
    parser = make_parser()
    args = parser.parse_args(args)
    check_arguments(args, parser)
    cfg = read_config(args, parser, 'model', 'test_dataloader')
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    name = args.name or Path(args.config).stem
    if not args.images:
        check_data(cfg, parser, 'test')
    try:
        check_size(args, cfg)
        resize_to(cfg.test_dataloader.dataset, args.size)
        detector = export.load_yolov2(cfg, args.checkpoint, not args.no_fuse)
        suppress_plainly(detector.bbox_head.test_cfg)
        batches, classes, photo = load_images(args, cfg, detector)
        args.out.mkdir(parents=True, exist_ok=True)
        size = batches[0].shape[-1], batches[0].shape[-2]
        if args.size and size != tuple(args.size):
            raise ValueError(
                f'--size: the test pipeline makes {size[0]}x{size[1]} of it, since it keeps the '
                'ratio of the images'
            )
        if 'onnx' in args.formats and any(one.shape != batches[0].shape for one in batches):
            print(f'{name}.onnx is for {size[0]}x{size[1]}, the size of the first image')
        fixed_size_only(args, size, detector.bbox_head.stride)
        suppression_within_classes(args, detector.bbox_head.test_cfg)
        description = export.describe(cfg, detector, classes, size)
        check_description(cfg, description, photo, batches[0])
        write_text(args.out / f'{name}.json', json.dumps(description, indent=1))
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print(f'{args.out / name}.json')
    wrong = []
    try:
        for path, found, number in write_and_check(args, cfg, detector, name, batches, size):
            report(path, found, number)
            if not found.equal:
                wrong.append(path.name)
    except OSError as error:  # a full disk
        sys.exit(str(error))
    if 'darknet' in args.formats:
        try:
            paths, found = darknet_and_back(args, cfg, detector, name, batches, size)
        except OSError as error:
            sys.exit(str(error))
        except ValueError as error:
            if not args.all:
                parser.error(str(error))
            print(f'Nothing for Darknet: {error}')
        else:
            report(paths[1], found, len(batches))
            print(resize_note(cfg))
            wrong += [] if found.equal else [paths[1].name]
    if wrong:
        sys.exit(f'{", ".join(wrong)}: not what PyTorch finds')


if __name__ == '__main__':
    main()
