"""Predicts on images, folders, patterns, videos or a camera.

python tools/predict.py CONFIG CHECKPOINT photo.jpg photos/ 'more/**/*.png' film.mp4
python tools/predict.py CONFIG CHECKPOINT 0 --show                  the first camera; Ctrl-C ends it
python tools/predict.py CONFIG CHECKPOINT photos/ --score-thr 0.001 --annotations truth.json

Leaves in --out: drawn/ (images, videos), predictions.csv (a line for each box), predictions.json
(COCO's format, annotations with scores; with --annotations in the ids of that file, so that
pycocotools can evaluate it), and with --crops every box as an image, by class. A file that cannot
be read is named, counted and left out. The checkpoint is refused if it could run code.
"""

import sys

try:
    from mmdet_yolo2fl.command_line import add_config_options, read_config
except ImportError as error:
    if error.name == 'mmdet_yolo2fl':
        sys.exit(
            'The package is not installed in this Python: `source .venv/bin/activate` after '
            '`make env` in its checkout, or `pip install -e .` there'
        )
    sys.exit(str(error))

import argparse
import signal
from pathlib import Path

import cv2
from filelock import FileLock, Timeout
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mmdet_yolo2fl.inference import (
    Writers,
    find_sources,
    frames,
    load_inferencer,
    reading_flag,
)
from mmdet_yolo2fl.inference.sources import number_of_frames
from mmdet_yolo2fl.whole_files import make_folder


def make_parser():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file or address')
    parser.add_argument(
        'inputs', nargs='+', help='images, folders, quoted patterns, videos, numbers of cameras'
    )
    parser.add_argument('--out', type=Path, default=Path('work_dirs/predictions'), help='folder')
    parser.add_argument('--score-thr', type=float, default=0.3, help='least score (default: 0.3)')
    parser.add_argument('--batch-size', type=int, default=8, help='images at once (default: 8)')
    parser.add_argument('--device', help='such as cuda:0 or cpu; default: a GPU if there is one')
    parser.add_argument('--crops', action='store_true', help='cut out every box')
    parser.add_argument('--no-draw', action='store_true', help='draw nothing')
    parser.add_argument('--show', action='store_true', help='show what is drawn in a window')
    parser.add_argument('--annotations', type=Path, help='COCO file whose ids are to be used')
    parser.add_argument('--every', type=int, default=1, help='only every so many frames of a video')
    parser.add_argument('--max-frames', type=int, help='of each video or camera')
    add_config_options(parser)
    return parser


def check(args, parser):
    if not 0 <= args.score_thr <= 1:
        parser.error(f'--score-thr must lie in 0..1, got {args.score_thr}')
    for name in ('batch_size', 'every', 'max_frames'):
        value = getattr(args, name)
        if value is not None and value < 1:
            parser.error(f'--{name.replace("_", "-")} must be at least 1, got {value}')
    if args.show and args.no_draw:
        parser.error('--show shows what --no-draw leaves out')


def batches(args, sources, flag, problems):
    """Lists of frames, of one source after the other; unreadable ones go to ``problems``."""
    batch = []
    for source in sources:
        # A camera's picture is wanted now, not when seven others have come.
        size = 1 if source.kind == 'camera' else args.batch_size
        try:
            for frame in frames(source, args.every, args.max_frames, flag):
                batch.append(frame)
                if len(batch) >= size:
                    yield batch
                    batch = []
        except ValueError as error:
            problems.append(str(error))
    if batch:
        yield batch


def expected_frames(args, sources):
    """How many frames there will be, or None if a source does not tell."""
    numbers = [number_of_frames(source) for source in sources]
    if None in numbers:
        return None
    return sum(
        number
        if source.kind == 'image'
        else min(-(-number // args.every), args.max_frames or number)
        for source, number in zip(sources, numbers)
    )


def refuse_unknown(args, sources, writers):
    """Every input must be an image of the COCO file."""
    names = [Path(source.path).name for source in sources]
    unknown = [name for name in names if name not in writers.image_ids]
    if unknown:
        raise ValueError(
            f'{args.annotations}: has no image {unknown[0]!r}'
            + (f', nor {len(unknown) - 1} others' if len(unknown) > 1 else '')
        )
    if len(set(names)) < len(names):
        raise ValueError('--annotations: two of the images have the same name')


def run(args, inferencer, sources, flag, writers):
    """Predict everything; what could not be read, and whether it was broken off."""
    problems, boxes, done = [], 0, 0
    # A service that is stopped keeps what there is, as with Ctrl-C.
    former = signal.signal(signal.SIGTERM, signal.default_int_handler)
    columns = TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn()
    try:
        with Progress(*columns, TimeRemainingColumn()) as progress:
            task = progress.add_task('Predicting', total=expected_frames(args, sources))
            for batch in batches(args, sources, flag, problems):
                samples = inferencer(
                    [frame.image for frame in batch],
                    batch_size=len(batch),
                    return_datasamples=True,
                    no_save_vis=True,
                )['predictions']
                for frame, sample in zip(batch, samples):
                    found = sample.pred_instances
                    found = found[found.scores >= args.score_thr].cpu()
                    sample.pred_instances = found
                    drawn = writers.add(frame, found, sample)
                    boxes += len(found)
                    done += 1
                    if args.show:
                        cv2.imshow('predictions', drawn)
                        cv2.waitKey(1)
                progress.update(task, advance=len(batch))
    except KeyboardInterrupt:
        print('Broken off; what was predicted so far is kept.')
    finally:
        signal.signal(signal.SIGTERM, former)
    return done, boxes, problems


def main(args=None):
    parser = make_parser()
    args = parser.parse_args(args)
    check(args, parser)
    cfg = read_config(args, parser)
    try:
        own = {(args.out / name).resolve() for name in ('drawn', 'crops')}  # of an earlier run
        sources = [
            source
            for source in find_sources(args.inputs)
            if source.kind == 'camera' or own.isdisjoint(Path(source.path).resolve().parents)
        ]
        if not sources:
            raise ValueError(f'{" ".join(args.inputs)}: nothing but the predictions in {args.out}')
        inferencer = load_inferencer(cfg, args.checkpoint, args.device)
        make_folder(args.out)
        writers = Writers(
            args.out,
            inferencer.model.dataset_meta['classes'],
            None if args.no_draw else inferencer.visualizer,
            args.crops,
            args.annotations,
        )
        if args.annotations:
            refuse_unknown(args, sources, writers)
        lock = FileLock(args.out / '.predict.lock')
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise BlockingIOError(
                f'{args.out}: another prediction is being written there; give this one a folder of '
                'its own by --out'
            ) from error
    except (OSError, ValueError) as error:
        parser.error(str(error))
    try:
        try:
            done, boxes, problems = run(args, inferencer, sources, reading_flag(cfg), writers)
        finally:
            paths = writers.close()
            lock.release()
    except (OSError, ValueError, cv2.error) as error:  # a full disk, no codec, no window
        sys.exit(str(error))
    if done:
        names = ', '.join(path.name for path in paths)
        print(f'{boxes} boxes in {done} images. In {args.out}: {names}')
    if done and writers.earlier():
        print(f'{writers.earlier()} pictures and videos in it are of earlier runs.')
    if problems:
        print(f'{len(problems)} files could not be read, or not wholly:', *problems, sep='\n  ')
    if not done:
        sys.exit('Nothing could be predicted.')


if __name__ == '__main__':
    main()
