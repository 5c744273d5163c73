"""One street scene: where everything stands, what of it can be seen, and how it is painted."""

import math
from dataclasses import dataclass, field

import cv2
import numpy as np

from . import objects
from .objects import Camera, Model

# How hard the pictures are.
OBJECTS = (3, 9)  # labelled objects in an image, both included
LOOK_ALIKES = (3, 8)  # unlabelled things in an image, both included
MIN_HEIGHT = dict(car=17, truck=36, pedestrian=56, cyclist=52)  # pixels, of the farthest ones
NEAREST = dict(car=5.5, truck=8.0, pedestrian=4.5, cyclist=4.5)  # metres
MIN_VISIBLE = 0.6  # part of an object's pixels that nothing in front and no border may hide
MIN_EXTENT = 0.7  # the same for its width and its height
MIN_BOX = (9, 14)  # width and height of the smallest box, pixels
MIN_GAP = 20  # pixels between the centres of two boxes of like size
DUSK = 0.3  # share of the images
HAZE = (0.002, 0.02)  # per metre
BLUR = (0.0, 0.9)  # sigma, pixels
NOISE = (1.0, 7.0)  # sigma, grey levels

SCALE = 2  # everything is painted larger, then made smaller: no jagged edges
LANES = ((-5.2, math.pi), (-1.75, math.pi), (1.75, 0.0), (5.2, 0.0))  # place in metres, heading
KERB, WALL = 7.0, 12.0  # metres from the middle of the road
SIZE = dict(  # length, width, height in metres
    car=(4.3, 2.0, 1.46),
    truck=(7.2, 2.6, 3.1),
    pedestrian=(0.8, 0.8, 1.7),
    cyclist=(1.9, 0.7, 1.8),
    tree=(0.7, 0.7, 5.0),
    sign=(0.5, 0.5, 2.3),
    lamp_post=(0.5, 0.5, 5.5),
    bin_=(0.8, 0.8, 1.1),
    advertising_column=(1.2, 1.2, 2.7),
    parking_meter=(0.5, 0.5, 1.6),
    bicycle_rack=(2.6, 0.7, 0.8),
    container=(5.2, 2.3, 2.3),
)
FURNITURE = tuple(SIZE)[4:]


@dataclass
class Sprite:
    """A painted object, cut out and clipped to the image.

    Attributes:
        label (int): Index of its class, -1 if it is not labelled.
        x, z (float): Its place across the street and its distance, metres.
        footprint (tuple): Half its extents across and along the street, metres.
        image (np.ndarray): (h, w, 3) uint8.
        mask (np.ndarray): (h, w) uint8, 255 where the object is.
        light (np.ndarray): (h, w, 3) uint8, what of it shines.
        place (tuple): The slices of the enlarged picture's rows and columns where it belongs.
        full_size (np.ndarray): Its width and height before clipping, enlarged.
        full_area (int): Its pixels before clipping, enlarged.
    """

    label: int
    x: float
    z: float
    footprint: tuple
    image: np.ndarray
    mask: np.ndarray
    light: np.ndarray
    place: tuple
    full_size: np.ndarray
    full_area: int


@dataclass
class Scene:
    """A street before it is painted. `width` and `height` are those of the final image."""

    width: int
    height: int
    camera: Camera
    dusk: bool
    sun: float
    haze: float
    sprites: list = field(default_factory=list)  # the farthest first

    @property
    def haze_colour(self):
        return (110, 120, 150) if self.dusk else (215, 208, 200)

    def hazy(self, colour, z):
        """The colour of something at the distance z."""
        clear = math.exp(-self.haze * z)
        mixed = (clear * c + (1 - clear) * h for c, h in zip(colour, self.haze_colour))
        return tuple(min(max(c, 0), 255) for c in mixed)


def render_scene(rng, classes, class_names, image_size):
    """Renders one image.

    Args:
        rng (np.random.Generator): Decides everything that is random.
        classes (Sequence[int]): Class index of each object that shall be in the image.
        class_names (Sequence[str]): Their names.
        image_size (tuple[int, int]): Width and height in pixels.

    Returns:
        tuple: The image (H, W, 3), BGR, uint8; the boxes (n, 4) as x1, y1, x2, y2 in pixels,
        inside the image and tight around what can be seen; the labels (n,); the visible areas
        (n,) in pixels. An object for which there is no room is left out, so n may be less than
        `len(classes)`.
    """
    scene = arrange(rng, classes, class_names, image_size)
    labels = np.array([sprite.label for sprite in scene.sprites], dtype=np.int64)
    boxes, areas = measure(scene)
    image = photograph(scene, *paint(scene, rng), rng)
    return image, boxes[labels >= 0], labels[labels >= 0], areas[labels >= 0]


# ---- where things stand


def arrange(rng, classes, class_names, image_size):
    """Places street furniture, then the objects, each where it can be seen well enough."""
    width, height = image_size
    camera = Camera(
        focal=SCALE * 370 * math.sqrt(width * height / (416 * 256)),
        center=SCALE * width * rng.uniform(0.35, 0.65),
        horizon=SCALE * height * rng.uniform(0.30, 0.42),
        x=rng.uniform(-2.5, 3.0),
        height=rng.uniform(2.0, 2.6),
    )
    dusk, sun = bool(rng.random() < DUSK), rng.uniform(-math.pi, math.pi)
    scene = Scene(width, height, camera, dusk, sun, rng.uniform(*HAZE))
    for _ in range(rng.integers(LOOK_ALIKES[0], LOOK_ALIKES[1] + 1)):
        place(scene, rng, FURNITURE[rng.integers(len(FURNITURE))], -1)
    # the long ones first, while there is room
    for label in sorted(classes, key=lambda c: -SIZE[class_names[c]][0]):
        place(scene, rng, class_names[label], label)
    return scene


def place(scene, rng, name, label, tries=40):
    """Adds one object, unless no good place for it is found."""
    draw = draw_pedestrian if name == 'pedestrian' else draw_vehicle
    for _ in range(tries):
        x, z, yaw = (draw_furniture if label < 0 else draw)(scene, rng, name)
        length, breadth, _ = SIZE[name]
        across, along = (length, breadth) if abs(math.sin(yaw)) > 0.7 else (breadth, length)
        footprint = across / 2, along / 2
        column, _ = scene.camera.pixel(x, 0, z)
        reach = 0.3 * across * scene.camera.focal / z
        if not -reach < column < SCALE * scene.width + reach or is_taken(scene, x, z, footprint):
            continue
        model = Model(scene.camera, x, z, yaw, scene.sun)
        getattr(objects, name)(model, rng)
        index = sum(other.z > z for other in scene.sprites)
        scene.sprites.insert(index, cut_out(scene, model, footprint, label))
        if label < 0 or is_good(scene, index):
            return
        del scene.sprites[index]


def draw_distance(scene, rng, name):
    """Uniform in the logarithm: as many large objects as small ones."""
    farthest = scene.camera.focal / SCALE * SIZE[name][2] / MIN_HEIGHT[name]
    farthest = max(farthest, NEAREST[name] + 1)
    return math.exp(rng.uniform(math.log(NEAREST[name]), math.log(farthest)))


def draw_across(scene, rng, z):
    """Any place that the image spans at the distance z."""
    reach = 0.6 * scene.width * SCALE / scene.camera.focal * z
    return min(max(scene.camera.x + rng.uniform(-reach, reach), 0.4 - WALL), WALL - 0.4)


def draw_pedestrian(scene, rng, name):
    """Place across, distance and heading of somebody on foot."""
    z = draw_distance(scene, rng, name)
    return draw_across(scene, rng, z), z, rng.integers(4) * math.pi / 2


def draw_vehicle(scene, rng, name):
    """Place across, distance and heading of a vehicle: in its lane, or crossing the street."""
    z = draw_distance(scene, rng, name) + SIZE[name][0] / 3
    jitter = rng.normal(0, 0.12)
    if rng.random() < (0.5 if name == 'cyclist' else 0.25):
        return draw_across(scene, rng, z), z, rng.choice((-1, 1)) * math.pi / 2 + jitter
    lane, heading = LANES[rng.integers(len(LANES))]
    if name == 'cyclist' and rng.random() < 0.6:
        lane = math.copysign(KERB - 0.8, lane)
    return lane + rng.normal(0, 0.3), z, heading + jitter


def draw_furniture(scene, rng, name):
    """Place across, distance and heading of something on the pavement."""
    side, z = rng.choice((-1, 1)), math.exp(rng.uniform(math.log(6), math.log(35)))
    x = rng.uniform(KERB + 0.7, WALL - 0.8)
    if name == 'container':
        x, z = WALL - 1.6, z + 3
    return side * x, z, rng.choice((0, math.pi)) + rng.normal(0, 0.1)


def is_taken(scene, x, z, footprint):
    return any(
        abs(x - other.x) < footprint[0] + other.footprint[0]
        and abs(z - other.z) < footprint[1] + other.footprint[1]
        for other in scene.sprites
    )


def is_good(scene, index):
    """Whether all objects are visible enough and the new one is not too close to its like."""
    boxes, areas = measure(scene)
    sizes = boxes[:, 2:] - boxes[:, :2]
    for sprite, size, area in zip(scene.sprites, sizes, areas):
        if sprite.label >= 0 and (
            area * SCALE**2 < MIN_VISIBLE * sprite.full_area
            or (size * SCALE < MIN_EXTENT * sprite.full_size).any()
            or (size < MIN_BOX).any()
        ):
            return False
    labelled = np.array([s.label >= 0 and i != index for i, s in enumerate(scene.sprites)])
    centers, extents = (boxes[:, :2] + boxes[:, 2:]) / 2, sizes.prod(axis=1)
    near = np.abs(centers - centers[index]).max(axis=1) < MIN_GAP
    alike = (extents < 4 * extents[index]) & (extents > 0.25 * extents[index])
    return not (labelled & near & alike).any()


def measure(scene):
    """Finds what can be seen of each object: inside the image, hidden by nothing in front.

    Returns:
        tuple: The tight boxes (n, 4), zeros for what cannot be seen, and the visible areas (n,),
        both in pixels of the final image, for the n sprites.
    """
    owner = np.full((SCALE * scene.height, SCALE * scene.width), -1, dtype=np.int16)
    for index, sprite in enumerate(scene.sprites):
        np.copyto(owner[sprite.place], index, where=sprite.mask > 0)
    boxes, areas = np.zeros((len(scene.sprites), 4)), np.zeros(len(scene.sprites))
    for index, sprite in enumerate(scene.sprites):
        seen = owner[sprite.place] == index
        rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
        if len(rows):
            top, left = sprite.place[0].start, sprite.place[1].start
            boxes[index, 0::2] = left + columns[0], left + columns[-1] + 1
            boxes[index, 1::2] = top + rows[0], top + rows[-1] + 1
            areas[index] = np.count_nonzero(seen)
    return boxes / SCALE, areas / SCALE**2


# ---- paint


def fill(canvas, polygons, colour):
    """Fills polygons, each a list of (across, down), at a sixteenth of a pixel."""
    fixed = [np.rint(16 * np.array(p)).astype(np.int32) for p in polygons]
    cv2.fillPoly(canvas, fixed, colour, shift=4)


def cut_out(scene, model, footprint, label):
    """Paints a model on a canvas of its own, then clips it to the image."""
    corners = np.array([corner for shape, _, _ in model.shapes for corner in shape])
    left, top = (int(v) for v in np.floor(corners.min(axis=0)) - 1)
    right, bottom = (int(v) for v in np.ceil(corners.max(axis=0)) + 2)
    canvas = np.zeros((bottom - top, right - left, 4), dtype=np.uint8)
    light = np.zeros((bottom - top, right - left, 3), dtype=np.uint8)
    for shape, colour, shines in model.shapes:
        shape, colour = np.array(shape) - (left, top), scene.hazy(colour, model.z)
        fill(canvas, [shape], (*colour, 255))
        if scene.dusk:
            fill(light, [shape], colour if shines else (0, 0, 0))

    mask = canvas[..., 3]
    _, _, *full_size = cv2.boundingRect(np.ascontiguousarray(mask))
    rows = slice(max(top, 0), max(min(bottom, SCALE * scene.height), 0))
    columns = slice(max(left, 0), max(min(right, SCALE * scene.width), 0))
    inside = (
        slice(rows.start - top, max(rows.stop - top, 0)),
        slice(columns.start - left, max(columns.stop - left, 0)),
    )
    return Sprite(
        label,
        model.x,
        model.z,
        footprint,
        np.ascontiguousarray(canvas[inside][..., :3]),
        np.ascontiguousarray(mask[inside]),
        light[inside],
        (rows, columns),
        np.array(full_size),
        np.count_nonzero(mask),
    )


def paint(scene, rng):
    """Paints the street and all that stands in it, (SCALE * H, SCALE * W, 3), and its lights."""
    canvas = paint_street(scene, rng)
    light = np.zeros_like(canvas)
    for sprite in scene.sprites:
        if sprite.mask.size:
            cv2.copyTo(sprite.image, sprite.mask, canvas[sprite.place])
            cv2.copyTo(sprite.light, sprite.mask, light[sprite.place])
    return canvas, light


def paint_street(scene, rng):
    """Sky, road, pavements, buildings and the shadows of what stands there."""
    camera, horizon = scene.camera, int(round(scene.camera.horizon))
    height, width = SCALE * scene.height, SCALE * scene.width
    zenith = (120, 75, 60) if scene.dusk else rng.uniform((200, 150, 110), (225, 190, 170))
    fade = np.linspace(0, 1, horizon)[:, None] ** 1.5
    canvas = np.empty((height, width, 3), dtype=np.uint8)
    canvas[:horizon] = ((1 - fade) * zenith + fade * scene.haze_colour)[:, None]

    def ground(x0, x1, z0, z1):
        return [camera.pixel(x, 0, z) for x, z in ((x0, z0), (x1, z0), (x1, z1), (x0, z1))]

    near, far, white = 1.0, 400.0, (205, 210, 212)
    canvas[horizon:] = rng.uniform((100, 110, 110), (150, 160, 165))
    asphalt = rng.uniform(75, 120)
    fill(canvas, [ground(-KERB, KERB, near, far)], (asphalt + 3, asphalt, asphalt - 2))
    fill(canvas, [ground(s * KERB, s * (KERB + 0.25), near, far) for s in (-1, 1)], (165, 168, 170))
    dashes = [ground(x - 0.08, x + 0.08, z, z + 3) for x in (-3.5, 3.5) for z in range(1, 90, 7)]
    fill(canvas, [*dashes, ground(-0.08, 0.08, near, far)], white)
    if rng.random() < 0.3:
        start, bars = rng.uniform(7, 16), np.arange(-KERB + 0.4, KERB - 0.5)
        fill(canvas, [ground(x, x + 0.5, start, start + 3) for x in bars], white)

    street = canvas[horizon:].astype(np.float32)
    stains = rng.normal(0, 7, (24, 16)).astype(np.float32)
    street += cv2.resize(stains, (width, height - horizon))[..., None]
    z = camera.focal * camera.height / (np.arange(height - horizon, dtype=np.float32) + 1)
    clear = np.exp(-scene.haze * z)[:, None, None]
    street *= clear
    street += (1 - clear) * np.array(scene.haze_colour, dtype=np.float32)
    canvas[horizon:] = np.clip(street, 0, 255, out=street)
    paint_buildings(canvas, scene, rng)
    paint_shadows(canvas, scene)
    return canvas


def paint_buildings(canvas, scene, rng):
    """Two rows of facades; the far ones first."""

    def panel(x, low, high, start, stop):
        corners = (low, start), (high, start), (high, stop), (low, stop)
        return [scene.camera.pixel(x, up, z) for up, z in corners]

    for x in (-WALL, WALL):
        edges = [2.0]
        while edges[-1] < 90:
            edges.append(edges[-1] + rng.uniform(6, 14))
        for z0, z1 in reversed(list(zip(edges, edges[1:]))):
            if rng.random() < 0.15:
                continue  # a gap
            wall = objects.pick(rng, [(120, 150, 175), (150, 160, 165), (95, 110, 150)], 14)
            top = rng.uniform(4, 13)
            gable = (x, 0), (x, top), (3 * x, top), (3 * x, 0)
            gable = [scene.camera.pixel(across, up, z0) for across, up in gable]
            fill(canvas, [gable], scene.hazy([0.8 * c for c in wall], z0))
            fill(canvas, [panel(x, 0, top, z0, z1)], scene.hazy(wall, z0))
            floors, columns = np.arange(1, top - 1.5, 3), np.arange(z0 + 0.8, z1 - 1.2, 2.5)
            panes = [panel(x, up, up + 1.5, z, z + 1.3) for up in floors for z in columns]
            lit = rng.random(len(panes)) < (0.4 if scene.dusk else 0.0)
            for on, colour in ((False, (95, 85, 75)), (True, (150, 220, 250))):
                some = [pane for pane, is_lit in zip(panes, lit) if is_lit == on]
                fill(canvas, some, scene.hazy(colour, z0))


def paint_shadows(canvas, scene):
    """Soft shadows on the ground below everything that stands there."""
    shade = np.zeros(canvas.shape[:2], dtype=np.uint8)
    for sprite in scene.sprites:
        x, (across, along) = sprite.x + 0.2 * math.sin(scene.sun), sprite.footprint
        rim = [(x + 1.15 * across * c, sprite.z + 1.1 * along * s) for c, s in objects.RIM]
        fill(shade, [[scene.camera.pixel(x, 0, z) for x, z in rim]], 255)
    left = 1 - (0.3 if scene.dusk else 0.5) / 255 * np.arange(256)
    top = int(scene.camera.horizon)
    factor = np.rint(255 * left).astype(np.uint8)[cv2.blur(shade[top:], (7, 7))]
    cv2.multiply(canvas[top:], cv2.merge([factor] * 3), canvas[top:], scale=1 / 255)


def photograph(scene, canvas, light, rng):
    """Daylight or dusk, glow of the lamps, blur of the lens, noise of the sensor."""
    size = scene.width, scene.height
    image = cv2.resize(canvas, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    if scene.dusk:
        shining = cv2.resize(light, size, interpolation=cv2.INTER_AREA).astype(np.float32)
        image *= rng.uniform((0.50, 0.42, 0.40), (0.68, 0.58, 0.56)).astype(np.float32)
        image += 0.5 * shining + 1.6 * cv2.GaussianBlur(shining, (0, 0), 3)
    else:
        image *= rng.uniform(0.8, 1.1)
    blur = rng.uniform(*BLUR)
    if blur > 0.2:
        image = cv2.GaussianBlur(image, (0, 0), blur)
    image += rng.uniform(*NOISE) * rng.standard_normal(image.shape, dtype=np.float32)
    return np.clip(np.round(image), 0, 255).astype(np.uint8)
