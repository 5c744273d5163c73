"""What becomes of predictions: pictures, crops, a table, a file in COCO's format."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from mmdet.visualization import DetLocalVisualizer
from mmengine.structures import InstanceData

from ..tables import csv_text
from ..whole_files import write_bytes, write_text
from .sources import Frame


class Writers:
    """Takes the predictions of one frame after the other; ``close`` writes what is left.

    ``predictions.json`` is a data set in COCO's format whose annotations have a score: ``COCO``
    loads it, and ``COCO.loadRes`` its list of annotations. ``predictions.csv`` has a line for each
    box. ``drawn/`` has images as JPEG, videos as MP4; ``crops/<class>/`` every box.

    Args:
        folder (Path): Where all of it goes.
        classes (Sequence[str]): Names.
        visualizer (DetLocalVisualizer, optional): Draws; None: nothing is drawn.
        crops (bool): Whether to cut out the boxes. Defaults to False.
        annotations (Path, optional): A COCO file whose ids of images (by the names of their
            files) and of classes are to be used. Every frame must be of an image in it.

    Raises:
        ValueError: If ``annotations`` is no COCO file, or has not these classes.
    """

    def __init__(
        self,
        folder: Path,
        classes: Sequence[str],
        visualizer: DetLocalVisualizer | None = None,
        crops: bool = False,
        annotations: Path | None = None,
    ) -> None:
        self.folder = folder
        self.classes = classes
        self.visualizer = visualizer
        self.crops = crops
        self.image_ids: dict[str, int | str] = {}
        self.category_ids = {name: number for number, name in enumerate(classes, 1)}
        if annotations is not None:
            self.image_ids, self.category_ids = read_ids(annotations, classes)
        self.images: list[dict] = []
        self.found: list[dict] = []
        self.written: set[Path] = set()
        self.lines: list[list] = []
        self.video = None
        self.frames = 0
        self.latest = None

    def add(self, frame: Frame, instances: InstanceData, sample=None) -> np.ndarray | None:
        """Take the predictions of a frame.

        Args:
            frame (Frame): The frame.
            instances (InstanceData): ``bboxes`` ``(K, 4)`` in its pixels, ``scores``, ``labels``;
                only those wanted.
            sample (DetDataSample, optional): With ``pred_instances``, for the visualizer.

        Returns:
            np.ndarray | None: What was drawn, ``(H, W, 3)`` BGR.
        """
        path = Path(frame.source.path)
        name = path.as_posix() if frame.source.kind != 'camera' else frame.source.name
        if frame.source.kind != 'image':
            name = f'{name}#{frame.number}'
        height, width = frame.image.shape[:2]
        image_id = self.image_ids[path.name] if self.image_ids else len(self.images) + 1
        self.images.append(dict(id=image_id, file_name=name, width=width, height=height))
        boxes = instances.bboxes.cpu().numpy().astype(float)
        scores, labels = instances.scores.tolist(), instances.labels.tolist()
        for number, (box, score, label) in enumerate(zip(boxes.tolist(), scores, labels)):
            left, top, right, bottom = box
            class_name = self.classes[label]
            self.found.append(
                dict(
                    id=len(self.found) + 1,
                    image_id=image_id,
                    category_id=self.category_ids[class_name],
                    bbox=[round(v, 3) for v in (left, top, right - left, bottom - top)],
                    area=round((right - left) * (bottom - top), 3),
                    iscrowd=0,
                    score=round(score, 6),
                )
            )
            self.lines.append(
                [frame.source.path, frame.number, class_name, f'{score:.6f}']
                + [f'{v:.2f}' for v in box]
            )
            if self.crops:
                self._crop(frame, box, class_name, score, number)
        return self._draw(frame, sample)

    def close(self) -> list[Path]:
        """Write the table and the COCO file, if there was a frame, and end the video.

        Returns:
            list[Path]: What there is now.
        """
        try:
            self._end_video()
        finally:
            if self.images:  # else those of an earlier run would be lost for nothing
                self._write_tables()
        names = ('predictions.json', 'predictions.csv', 'drawn', 'crops')
        return [path for name in names if (path := self.folder / name).exists()]

    def _write_tables(self) -> None:
        categories = [dict(id=number, name=name) for name, number in self.category_ids.items()]
        content = dict(images=self.images, annotations=self.found, categories=categories)
        write_text(self.folder / 'predictions.json', json.dumps(content))
        head = ['file', 'frame', 'class', 'score', 'x1', 'y1', 'x2', 'y2']
        write_text(self.folder / 'predictions.csv', csv_text(head, self.lines))

    def earlier(self) -> int:
        """Pictures and videos in the folder that this run has not written."""
        files = {file for name in ('drawn', 'crops') for file in (self.folder / name).rglob('*.*')}
        return len({file for file in files if file.is_file()} - self.written)

    def _crop(self, frame: Frame, box, class_name: str, score: float, number: int) -> None:
        height, width = frame.image.shape[:2]
        left, top = (max(int(np.floor(v)), 0) for v in box[:2])
        right, bottom = (min(int(np.ceil(v)), e) for v, e in zip(box[2:], (width, height)))
        if right <= left or bottom <= top:
            return
        place = self.folder / 'crops' / _file_name(class_name)
        name = frame.source.name
        if frame.source.kind != 'image':
            name += f'_{frame.number:06d}'
        self._put_image(
            frame.image[top:bottom, left:right], place / f'{name}_{number}_{score:.2f}.jpg'
        )

    def _draw(self, frame: Frame, sample) -> np.ndarray | None:
        if self.visualizer is None:
            return None
        self.visualizer.add_datasample(
            'prediction', frame.image[..., ::-1], sample, draw_gt=False, pred_score_thr=0.0
        )
        drawn = np.ascontiguousarray(self.visualizer.get_image()[..., ::-1])
        place = self.folder / 'drawn' / frame.source.name
        if frame.source.kind == 'image':
            self._put_image(drawn, place.with_name(place.name + '.jpg'))
        else:
            video = place.with_name(place.name + '.mp4')
            self._put_frame(drawn, video, frame.rate, frame.seconds)
        return drawn

    def _put_image(self, image: np.ndarray, path: Path) -> None:
        done, data = cv2.imencode('.jpg', image)
        if not done:
            raise ValueError(f'{path}: OpenCV cannot encode an image of shape {image.shape}')
        write_bytes(path, data.tobytes(), durable=False)  # there may be a million
        self.written.add(path)

    def _put_frame(
        self, image: np.ndarray, path: Path, rate: float, seconds: float | None = None
    ) -> None:
        if self.video is None or self.video[0] != path:
            self._end_video()
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished = path.with_name(f'{path.stem}.unfinished.mp4')
            size = image.shape[1], image.shape[0]
            # MPEG-4 counts time in fractions of up to 1 / 65535 seconds.
            rate = round(rate, 3 if rate < 65 else 2 if rate < 655 else 1)
            writer = cv2.VideoWriter(str(unfinished), cv2.VideoWriter_fourcc(*'mp4v'), rate, size)
            if not writer.isOpened():
                raise ValueError(f'{path}: OpenCV cannot write this video here')
            self.video, self.frames = (path, unfinished, writer, size), 0
        *_, writer, size = self.video
        # A camera may change its mind; a video has one size.
        if (image.shape[1], image.shape[0]) != size:
            image = cv2.resize(image, size)
        # Of a camera the picture before stays until this one's time, so that the film is neither
        # faster nor slower; one that comes too soon waits, too.
        due = self.frames if seconds is None else round(seconds * rate)
        while self.frames < due:
            writer.write(self.latest)
            self.frames += 1
        if self.frames == due:
            writer.write(image)
            self.frames += 1
        self.latest = image

    def _end_video(self) -> None:
        if self.video is not None:
            path, unfinished, writer, _ = self.video
            writer.release()
            unfinished.replace(path)
            self.written.add(path)
            self.video = None


def read_ids(
    path: Path, classes: Sequence[str]
) -> tuple[dict[str, int | str], dict[str, int | str]]:
    """The ids of the images, by the name of their file, and of the classes of a COCO file.

    Raises:
        ValueError: If it is no such file, names an image twice, or lacks a class.
    """
    try:
        content = json.loads(Path(path).read_text(encoding='utf-8'))
        names = [(Path(image['file_name']).name, _id(image)) for image in content['images']]
        category_ids = {category['name']: _id(category) for category in content['categories']}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f'{path}: no COCO annotation file ({error!r})') from error
    image_ids = dict(names)
    if len(image_ids) < len(names):
        raise ValueError(f'{path}: names of images in it are not unique without their folders')
    missing = [name for name in classes if name not in category_ids]
    if missing:
        raise ValueError(f'{path}: has no category {missing}; it has {list(category_ids)}')
    return image_ids, {name: category_ids[name] for name in classes}


def _id(entry: dict) -> int | str:
    value = entry['id']
    if isinstance(value, float) and value.is_integer():  # as pandas writes them
        return int(value)
    if not isinstance(value, int | str):
        raise ValueError(f'the id {value!r} is neither a whole number nor a text')
    return value


def _file_name(text: str) -> str:
    """A class may have any name; a folder may not, least of all one that leads elsewhere."""
    return re.sub(r'[^\w\- ]', '_', text).strip() or '_'
