"""The page of tools/web_demo.py; needs Gradio."""

from copy import deepcopy
from dataclasses import dataclass

import gradio as gr
import numpy as np
import torch
from matplotlib.figure import Figure
from mmdet.apis import DetInferencer
from mmdet.registry import DATASETS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.structures import InstanceData

from ..models.dense_heads.yolov2_head import YOLOV2Head
from .score_maps import over_image, score_maps
from .sources import read_image

ABOUT = """Drop an image, or choose one of the test set; move the threshold. The maps have a value
for each cell: **objectness** where the detector sees something, and **pt**, the probability given
to what is true there, by which focal loss weighs: dark cells are those it learns from. Of an image
of the test set the truth is known; of another the boxes above the threshold stand for it."""


@dataclass
class Look:
    """One image and what the detector says of it.

    Attributes:
        image (np.ndarray): ``(H, W, 3)`` RGB.
        sample (DetDataSample): All predictions, in pixels of the image.
        pred_map (torch.Tensor | None): Of a :class:`YOLOV2Head`, what it returned.
        truth (InstanceData | None): ``bboxes``, ``labels`` in pixels of the image, where known.
    """

    image: np.ndarray
    sample: DetDataSample
    pred_map: torch.Tensor | None
    truth: InstanceData | None


def known_images(cfg: Config, number: int) -> dict[str, tuple[str, InstanceData]]:
    """The first images of the test set, with their truths, by name.

    Returns:
        dict[str, tuple[str, InstanceData]]: Path, and ``bboxes`` ``(n, 4)`` in pixels with
        ``labels``, ignored ones left out.
    """
    if not number:
        return {}
    dataset = DATASETS.build(deepcopy(cfg.test_dataloader.dataset))
    known = {}
    for index in range(min(number, len(dataset))):
        info = dataset.get_data_info(index)
        truths = [truth for truth in info['instances'] if not truth['ignore_flag']]
        known[f'{index + 1}: {info["img_path"].rsplit("/", 1)[-1]}'] = (
            info['img_path'],
            InstanceData(
                bboxes=torch.tensor([t['bbox'] for t in truths]).reshape(-1, 4),
                labels=torch.tensor([t['bbox_label'] for t in truths], dtype=torch.int64),
            ),
        )
    return known


def read_rgb(path: str, flag: str) -> np.ndarray:
    """An image ``(H, W, 3)``; MMCV's own ``channel_order`` is for the flag 'color' alone."""
    return np.ascontiguousarray(read_image(path, flag)[..., ::-1])


def read_or_say(path: str, flag: str) -> np.ndarray:
    """As :func:`read_rgb`; what is wrong with a file stands on the page."""
    try:
        return read_rgb(path, flag)
    except ValueError as error:
        raise gr.Error(str(error)) from error


def dropped_image() -> gr.Image:
    """Gives the file itself, for the detector to read it as it reads all others: Gradio would make
    white of 16 bits, and numbers of colours of a GIF."""
    return gr.Image(
        label='Image',
        sources=['upload', 'clipboard'],
        elem_id='image',
        type='filepath',
        image_mode=None,
    )


class Detector:
    """Looks at an image, and draws what it saw for any threshold without looking again."""

    def __init__(self, inferencer: DetInferencer) -> None:
        self.inferencer = inferencer
        self.classes = inferencer.model.dataset_meta['classes']
        head = getattr(inferencer.model, 'bbox_head', None)
        self.head = head if isinstance(head, YOLOV2Head) else None
        self.pred_map = None
        if self.head is not None:
            self.head.register_forward_hook(self._keep)

    def _keep(self, head, inputs, outputs) -> None:
        (self.pred_map,) = outputs

    def look(self, image: np.ndarray, truth: InstanceData | None = None) -> Look:
        """Predict on an ``(H, W, 3)`` RGB image."""
        (sample,) = self.inferencer(
            [np.ascontiguousarray(image[..., ::-1])], return_datasamples=True, no_save_vis=True
        )['predictions']
        return Look(image, sample.cpu(), self.pred_map, truth)

    def show(self, look: Look, threshold: float):
        """The drawn image, the maps (None of another detector) and a row for each box."""
        found = look.sample.pred_instances
        found = found[found.scores >= threshold]
        sample = look.sample.clone()
        sample.pred_instances = found
        visualizer = self.inferencer.visualizer
        visualizer.add_datasample('page', look.image, sample, draw_gt=False, pred_score_thr=0.0)
        rows = [
            [self.classes[label], round(score, 3), *(round(v, 1) for v in box)]
            for label, score, box in zip(
                found.labels.tolist(), found.scores.tolist(), found.bboxes.tolist()
            )
        ]
        maps = None if look.pred_map is None else self._maps(look, found)
        return visualizer.get_image(), maps, rows

    def _maps(self, look: Look, found: InstanceData) -> Figure:
        meta = look.sample.metainfo
        truth = found if look.truth is None else look.truth
        scale = torch.tensor([*meta['scale_factor']] * 2)
        offset = torch.tensor([*meta.get('pad_offset', (0, 0))] * 2)
        in_input = InstanceData(bboxes=truth.bboxes * scale + offset, labels=truth.labels)
        maps = score_maps(self.head, look.pred_map, meta, in_input)
        height, width = look.image.shape[:2]
        figure = Figure((10, 4.6 * height / width + 0.5), layout='constrained')
        titles = (
            'highest class score' if self.head.joint else 'objectness',
            'pt of the own boxes' if look.truth is None else 'pt of the truth',
        )
        for axes, values, title in zip(figure.subplots(1, 2), maps, titles):
            axes.imshow(look.image, alpha=0.45)
            extent = over_image(values, meta, self.head.stride)
            drawn = axes.imshow(values, 'viridis', vmin=0, vmax=1, alpha=0.6, extent=extent)
            axes.set(xlim=(0, width), ylim=(height, 0), title=title, xticks=[], yticks=[])
            figure.colorbar(drawn, ax=axes, shrink=0.8)
        return figure


def make_page(
    inferencer: DetInferencer,
    known: dict[str, tuple[str, InstanceData]] | None = None,
    flag: str = 'color',
) -> gr.Blocks:
    """The page, not yet served.

    Args:
        inferencer (DetInferencer): Of :func:`load_inferencer`.
        known (dict, optional): Of :func:`known_images`.
        flag (str): Of ``mmcv.imread``. Defaults to 'color'.
    """
    known = known or {}
    detector = Detector(inferencer)
    nothing = None, None, None, []

    def look_at(path, threshold):
        if path is None:
            return nothing
        look = detector.look(read_or_say(path, flag))
        return look, *detector.show(look, threshold)

    def choose(name, threshold):
        if name is None:
            return None, *nothing
        path, truth = known[name]
        look = detector.look(read_or_say(path, flag), truth)
        return look.image, look, *detector.show(look, threshold)

    def move(look, threshold):
        return nothing[1:] if look is None else detector.show(look, threshold)

    with gr.Blocks(title='mmdet_yolo2fl', analytics_enabled=False) as page:
        gr.Markdown(ABOUT)
        seen = gr.State()
        with gr.Row():
            with gr.Column():
                image = dropped_image()
                name = gr.Dropdown(
                    [*known], value=None, label='Of the test set', visible=bool(known)
                )
                threshold = gr.Slider(0, 1, 0.3, step=0.01, label='Threshold of the score')
            drawn = gr.Image(label='Boxes', format='png', interactive=False, elem_id='drawn')
        maps = gr.Plot(label='In every cell', elem_id='maps', visible=detector.head is not None)
        table = gr.Dataframe(
            headers=['class', 'score', 'x1', 'y1', 'x2', 'y2'], label='Boxes', elem_id='table'
        )
        outputs = [seen, drawn, maps, table]
        # One model: one look at a time.
        one = dict(concurrency_limit=1, concurrency_id='model')
        image.input(look_at, [image, threshold], outputs, **one)
        name.input(choose, [name, threshold], [image, *outputs], **one)
        threshold.change(move, [seen, threshold], outputs[1:], **one, show_progress='hidden')
    return page


def launch(page: gr.Blocks, host: str, port: int, wait: bool = True) -> None:
    """Serve the page, until Ctrl-C if ``wait``.

    Raises:
        OSError: If the port is taken.
    """
    page.launch(
        server_name=host,
        server_port=port,
        prevent_thread_lock=not wait,
        # Its own themes fetch their fonts from the internet.
        theme=gr.themes.Base(font=['system-ui', 'sans-serif'], font_mono=['monospace']),
        footer_links=[],
        enable_monitoring=False,
        ssr_mode=False,
    )
