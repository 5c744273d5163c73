"""A page on this machine: drop an image, move the threshold, see what the detector sees.

python tools/web_demo.py CONFIG CHECKPOINT            then open http://127.0.0.1:7860
python tools/web_demo.py CONFIG CHECKPOINT --port 8000 --images 20

Shows the boxes, and of a YOLOv2 two maps with a value for each cell: the objectness (of a joint
head the highest class score), and pt, the probability given to what is true there, by which focal
loss weighs. For the first --images of the config's test set the truth is known; for other images
the boxes above the threshold stand for it, so that pt says how sure the detector is of them.

Needs Gradio: pip install 'mmdet_yolo2fl[web]'. The page answers this machine only, unless --host
says otherwise, and asks nothing of the internet.
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
import importlib.util

from mmdet_yolo2fl.inference import load_inferencer, reading_flag


def make_parser():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file or address; refused if unsafe')
    parser.add_argument(
        '--images', type=int, default=8, help='of the test set to choose from (default: 8)'
    )
    parser.add_argument('--device', help='such as cuda:0 or cpu; default: a GPU if there is one')
    parser.add_argument('--host', default='127.0.0.1', help='0.0.0.0: for the whole network')
    parser.add_argument('--port', type=int, default=7860, help='of the page (default: 7860)')
    add_config_options(parser)
    return parser


def main(args=None):
    parser = make_parser()
    args = parser.parse_args(args)
    if args.images < 0:
        parser.error(f'--images must not be negative, got {args.images}')
    if not 0 < args.port < 65536:
        parser.error(f'--port must lie in 1..65535, got {args.port}')
    if importlib.util.find_spec('gradio') is None:
        parser.error("the page needs Gradio: pip install 'mmdet_yolo2fl[web]'")
    from mmdet_yolo2fl.inference.web_page import known_images, launch, make_page

    cfg = read_config(args, parser)
    try:
        inferencer = load_inferencer(cfg, args.checkpoint, args.device)
        page = make_page(inferencer, known_images(cfg, args.images), reading_flag(cfg))
        launch(page, args.host, args.port)
    except (OSError, ValueError) as error:
        parser.error(str(error))


if __name__ == '__main__':
    main()
