"""What is interrupted: small jobs of every kind that the project does, and what they leave."""

import hashlib
import importlib.util
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from mmdet.visualization import DetLocalVisualizer
from mmengine.logging import MMLogger
from mmengine.visualization import Visualizer

from mmdet_yolo2fl.checkpoints import verify_checkpoint
from mmdet_yolo2fl.datasets import make_tiny_traffic
from tests.darknet import networks
from tests.tools.conftest import write_data, write_squares

ROOT = Path(__file__).parents[2]
UNFINISHED = ('.tmp', '.unfinished')
# CocoMetric with an annotation file has no AP50 by class.
METRIC = ('--metrics', 'coco/bbox_mAP', 'coco/bbox_mAP_50')


def tool(name: str, *args) -> None:
    """Run a tool of this checkout in this process."""
    spec = importlib.util.spec_from_file_location(f'tool_{name}', ROOT / f'tools/{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main([str(arg) for arg in args])


def start(job: Callable[[], None], log: Path) -> int:
    """Run a job in a process of its own, which has imported everything already; its number."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        with open(log, 'a') as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        sys.stdout = sys.stderr = open(1, 'w', buffering=1, closefd=False)  # noqa: SIM115
        MMLogger._instance_dict.clear()  # they write to the output of the parent
        for kind in (Visualizer, DetLocalVisualizer):  # and these into the folder of a former test
            kind._instance_dict.clear()
        job()
        code = 0
    except SystemExit as stop:
        print(stop.code)
        code = 0 if stop.code in (0, None) else 2
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def run(job: Callable[[], None], log: Path) -> float:
    """Run a job to its end; the seconds that it took."""
    begin = time.monotonic()
    _, status = os.waitpid(start(job, log), 0)
    assert os.waitstatus_to_exitcode(status) == 0, log.read_text()[-3000:]
    return time.monotonic() - begin


def kill(job: Callable[[], None], log: Path, seconds: float) -> bool:
    """Start a job and kill it after some seconds; whether it was still at work."""
    pid = start(job, log)
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)  # still there: nobody has waited for it
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status) == -signal.SIGKILL


def unfinished(folder: Path) -> list[str]:
    """Names of temporary files and folders."""
    return sorted(
        path.name for path in folder.rglob('*') if any(part in path.name for part in UNFINISHED)
    )


def digest(folder: Path) -> dict[str, str]:
    """Every file of a folder with its content; weights as tensors, whatever the archive's order."""
    found = {}
    for path in sorted(path for path in folder.rglob('*') if path.is_file()):
        name = path.relative_to(folder).as_posix()
        data = path.read_bytes()
        if path.suffix == '.pth':
            state = torch.load(verify_checkpoint(path), weights_only=True)['state_dict']
            data = b''.join(f'{k}{v.numpy().tobytes()}'.encode() for k, v in state.items())
        if path.suffix == '.pt2':
            program = torch.export.load(path).module()
            with torch.no_grad():
                data = b''.join(x.numpy().tobytes() for x in program(torch.ones(2, 3, 64, 96)))
        # Lists of images hold the folder that they were written for.
        data = data.replace(str(folder).encode(), b'OUT')
        found[name] = hashlib.sha256(data).hexdigest()
    return found


class Jobs:
    """The jobs, each a function of the folder that it writes into.

    Args:
        folder (Path): For what they read; made here.
        epochs (int): Of the training.
        scenes (int): To draw.
        width (float): Of the Darknet network to convert.
        images (int): Of the data set to convert.
        formats (tuple): To export.
    """

    def __init__(
        self,
        folder: Path,
        epochs: int = 8,
        scenes: int = 30,
        width: float = 0.125,
        images: int = 60,
        formats: tuple = ('torch', 'darknet'),
    ) -> None:
        self.folder, self.scenes, self.formats = folder, scenes, formats
        folder.mkdir(parents=True)
        self.data = write_data(folder / 'data')
        self.config, self.checkpoint = write_squares(folder, self.data)
        self.training = folder / 'training.py'
        self.training.write_text(
            f"_base_ = '{self.config}'\n"
            f'train_cfg = dict(max_epochs={epochs}, val_interval=1)\n'
            "pipeline = _base_.pipeline[:-1] + [dict(type='PackDetInputs')]\n"  # nothing at random
            'train_dataloader = dict(\n'
            '    batch_size=2, num_workers=1, persistent_workers=False, drop_last=False,\n'
            '    dataset=dict(\n'
            "        _delete_=True, type='CocoDataset', data_prefix=dict(img=''),\n"
            f"        data_root='{self.data}', ann_file='train.json', pipeline=pipeline,\n"
            "        metainfo=dict(classes=('red', 'blue'))))\n"
            'randomness = dict(seed=0)\n'
            'default_hooks = dict(checkpoint=dict(save_best=None, max_keep_ckpts=2))\n'
        )
        self.cfg, self.weights = networks.write(
            folder, 'network', **networks.NETWORKS['yolov2-voc'] | dict(width=width, size=(64, 64))
        )
        self._write_darknet_data(images)
        self.study = folder / 'study.py'
        self.study.write_text(
            f"config = '{self.training}'\nseeds = [0]\nbaseline = 'plain'\n"
            'rows = {\n'
            "    'plain': dict(),\n"
            "    'focal': dict(model=dict(bbox_head=dict(loss_obj=dict(gamma=1.0)))),\n"
            '}\n'
        )

    def _write_darknet_data(self, images: int) -> None:
        self.darknet = self.folder / 'darknet'
        (self.darknet / 'images').mkdir(parents=True)
        (self.darknet / 'labels').mkdir()
        for number in range(images):
            image = np.full((40, 40, 3), number % 256, np.uint8)
            cv2.imwrite(str(self.darknet / f'images/{number}.png'), image)
            (self.darknet / f'labels/{number}.txt').write_text('0 0.5 0.5 0.5 0.5\n')
        names = ''.join(f'images/{number}.png\n' for number in range(images))
        (self.darknet / 'train.txt').write_text(names)
        (self.darknet / 'obj.names').write_text('red\nblue\n')
        (self.darknet / 'obj.data').write_text('names = obj.names\ntrain = train.txt\n')

    def train(self, out: Path) -> None:
        """A training without random augmentation, which goes on where it was."""
        tool('train', self.training, '--work-dir', out, '--resume')

    def draw(self, out: Path) -> None:
        """The embedded data set."""
        make_tiny_traffic(out, split='val', num_images=self.scenes, image_size=(64, 64))

    def darknet2mmdet(self, out: Path) -> None:
        tool('darknet2mmdet', self.cfg, self.weights, out)

    def mmdet2darknet(self, out: Path) -> None:
        tool('mmdet2darknet', self.config, self.checkpoint, out)

    def darknet2coco(self, out: Path) -> None:
        tool('darknet2coco', self.darknet / 'obj.data', out)

    def coco2darknet(self, out: Path) -> None:
        tool('coco2darknet', self.data / 'train.json', self.data, out, '--copy-images')

    def export(self, out: Path) -> None:
        tool('export', self.config, self.checkpoint, '--out', out, '--formats', *self.formats)

    def predict(self, out: Path) -> None:
        tool(
            'predict', self.config, self.checkpoint, self.data / '1.png', self.data / '2.png',
            '--out', out, '--device', 'cpu', '--crops',
        )  # fmt: skip

    def run_study(self, out: Path) -> None:
        tool('study', self.study, '--out', out / 'runs', '--tables', out / 'tables', *METRIC)

    def result(self, name: str, out: Path) -> dict[str, str]:
        """What a job has made, without what differs from run to run: times, logs, pictures."""
        if name == 'train':
            return {k: v for k, v in digest(out).items() if k.startswith('epoch_')}
        if name == 'run_study':
            rows = (out / 'tables/study.csv').read_text().splitlines()
            column = rows[0].split(',').index('minutes')
            rows = [','.join(row.split(',')[:column]) for row in rows[1:]]
            curves = (out / 'tables/study_curves.csv').read_text()
            weights = digest(out / 'runs')
            return dict(
                rows=str(rows), curves=curves, **{k: v for k, v in weights.items() if '.pth' in k}
            )
        found = digest(out)
        return {k: v for k, v in found.items() if not k.endswith('.lock')}
