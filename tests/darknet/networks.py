"""Darknet's four public YOLOv2 networks as cfg text, in any width, with random weights."""

import struct

import numpy as np

VOC_ANCHORS = (
    '1.3221, 1.73145, 3.19275, 4.00944, 5.05587, 8.09892, 9.47112, 4.84053, 11.2364, 10.0071'
)
COCO_ANCHORS = (
    '0.57273, 0.677385, 1.87446, 2.06253, 3.33843, 5.47434, 7.88282, 3.52778, 9.77052, 9.16828'
)
TINY_VOC_ANCHORS = '1.08,1.19,  3.42,4.41,  6.63,11.38,  9.42,5.11,  16.62,10.52'
# Filters of 3x3 convolutions are positive, of 1x1 ones negative; 'm' pools.
DARKNET19 = [32, 'm', 64, 'm', 128, -64, 128, 'm', 256, -128, 256, 'm']
DARKNET19 += [512, -256, 512, -256, 512, 'm', 1024, -512, 1024, -512, 1024]
TINY = [16, 'm', 32, 'm', 64, 'm', 128, 'm', 256, 'm', 512, 'm1', 1024]
NETWORKS = {
    'yolov2': dict(layers=[*DARKNET19, 1024, 1024, 'pass', 1024], classes=80, size=(608, 608)),
    'yolov2-voc': dict(
        layers=[*DARKNET19, 1024, 1024, 'pass', 1024], anchors=VOC_ANCHORS, size=(416, 416)
    ),
    'yolov2-tiny': dict(layers=[*TINY, 512], classes=80, size=(416, 416), rescore=0),
    'yolov2-tiny-voc': dict(
        layers=[*TINY, 1024],
        anchors=TINY_VOC_ANCHORS,
        size=(416, 416),
        schedule='max_batches = 40200\npolicy=steps\n'
        'steps=-1,100,20000,30000\nscales=.1,10,.1,.1\n',
    ),
}
NETWORKS['yolov2']['anchors'] = NETWORKS['yolov2-tiny']['anchors'] = COCO_ANCHORS


def cfg_text(
    layers,
    anchors=VOC_ANCHORS,
    classes=20,
    size=(416, 416),
    width=1.0,
    thresh=0.6,
    rescore=1,
    channels=3,
    activation='leaky',
    batch_normalize=1,
    reorg='reorg',
    fine=64,
    route=-9,
    region='',
    net='',
    schedule='burn_in=1000\nmax_batches = 80200\npolicy=steps\nsteps=40000,60000\nscales=.1,.1\n',
):
    """A cfg; ``fine=None`` leaves out the 1x1 convolution of the pass-through."""
    num = len(anchors.split(',')) // 2
    text = (
        f'[net]\n# Testing\nbatch=1\nsubdivisions=1\nwidth={size[0]}\nheight={size[1]}\n'
        f'channels={channels}\nmomentum=0.9\ndecay=0.0005\nangle=0\nsaturation = 1.5\n'
        'exposure = 1.5\nhue=.1\n\nlearning_rate=0.001\n'
        f'{schedule}{net}\n'
    )

    def conv(filters, size):
        normalized = 'batch_normalize=1\n' if batch_normalize else ''
        filters = max(1, round(filters * width))
        return (
            f'[convolutional]\n{normalized}filters={filters}\nsize={size}\nstride=1\npad=1\n'
            f'activation={activation}\n\n'
        )

    for layer in layers:
        if layer == 'm':
            text += '[maxpool]\nsize=2\nstride=2\n\n'
        elif layer == 'm1':
            text += '[maxpool]\nsize=2\nstride=1\n\n'
        elif layer == 'pass':
            text += f'[route]\nlayers={route}\n\n'
            text += conv(fine, 1) if fine else ''
            text += f'[{reorg}]\nstride=2\n\n'
            text += f'[route]\nlayers=-1,{-4 if fine else -3}\n\n'
        else:
            text += conv(abs(layer), 3 if layer > 0 else 1)
    text += (
        f'[convolutional]\nsize=1\nstride=1\npad=1\nfilters={num * (5 + classes)}\n'
        'activation=linear\n\n'
        f'[region]\nanchors = {anchors}\nbias_match=1\nclasses={classes}\ncoords=4\nnum={num}\n'
        f'softmax=1\njitter=.2\nrescore={rescore}\n\nobject_scale=5\nnoobject_scale=1\n'
        f'class_scale=1\ncoord_scale=1\n\nabsolute=1\nthresh = {thresh}\nrandom=0\n{region}'
    )
    return text


def layer_sizes(text):
    """(input channels, filters, kernel size, normalized) of each convolution, read from the text.

    A second reader, that knows nothing of the package.
    """
    shapes, outputs = [], []
    blocks = [block.splitlines() for block in text.split('[')[1:]]
    channels = 3
    for block in blocks:
        name = block[0].split(']')[0]
        options = dict(
            line.replace(' ', '').split('=', 1)
            for line in block[1:]
            if '=' in line and not line.startswith('#')
        )
        if name == 'net':
            channels = int(options.get('channels', 3))
            continue
        if name == 'convolutional':
            size, filters = int(options['size']), int(options['filters'])
            shapes.append((channels, filters, size, options.get('batch_normalize') == '1'))
            channels = filters
        elif name.startswith('reorg'):
            channels *= 4
        elif name == 'route':
            channels = sum(outputs[int(i)] for i in options['layers'].split(','))
        outputs.append(channels)
    return shapes


def random_weights(text, seed=0, header=(0, 2, 0), seen=64000, min_variance=0.5):
    """A weights file for a cfg, with activations that neither vanish nor explode."""
    random = np.random.default_rng(seed)
    out = [struct.pack('<iii', *header)]
    wide = header[0] * 10 + header[1] >= 2 and max(header[:2]) < 1000
    out.append(struct.pack('<q' if wide else '<i', seen))
    for channels, filters, size, normalized in layer_sizes(text):
        fan_in = channels * size**2
        weights = random.standard_normal(filters * fan_in, dtype=np.float32)
        if normalized:
            variance = min_variance * 2.0 ** random.uniform(0, 2, filters)
            # The weights follow the variance, as in a trained network.
            weights = weights.reshape(filters, fan_in) * np.sqrt(variance / fan_in)[:, None]
            scale, mean = random.uniform(0.7, 1.3, filters), random.normal(0, 0.1, filters)
            parts = [random.normal(0, 0.1, filters), scale, mean * np.sqrt(variance), variance]
        else:
            weights *= 1 / np.sqrt(fan_in)
            parts = [random.normal(0, 0.3, filters)]
        out += [np.asarray(part, dtype='<f4').tobytes() for part in (*parts, weights)]
    return b''.join(out)


def write(folder, name='model', seed=0, weights=None, **options):
    """Write NAME.cfg and NAME.weights; ``options`` go to cfg_text."""
    folder.mkdir(parents=True, exist_ok=True)
    cfg = folder / f'{name}.cfg'
    cfg.write_text(cfg_text(**options))
    path = cfg.with_suffix('.weights')
    path.write_bytes(random_weights(cfg.read_text(), seed) if weights is None else weights)
    return cfg, path
