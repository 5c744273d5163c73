"""The things in a street, built from flat polygons in metres and seen by a pinhole camera.

Colours are BGR. An object's own frame is (forward, right, up), with its origin on the ground.
"""

import math
from dataclasses import dataclass

import numpy as np

PAINT = [(45, 45, 48), (200, 200, 205), (225, 228, 230), (120, 120, 125), (40, 40, 170)]
PAINT += [(150, 80, 35), (95, 60, 30), (60, 110, 60), (50, 150, 205), (70, 85, 105)]
CARGO = [(220, 222, 225), (180, 190, 200), (60, 140, 215), (140, 90, 40), (60, 60, 160)]
CLOTHES = [(50, 45, 40), (130, 70, 40), (60, 60, 175), (200, 195, 190), (70, 130, 75)]
CLOTHES += [(60, 170, 215), (120, 60, 110), (90, 95, 100), (170, 150, 60)]
SKIN = [(150, 185, 230), (110, 150, 205), (70, 100, 150), (50, 70, 110)]
HAIR = [(25, 25, 30), (40, 60, 90), (90, 140, 180), (140, 140, 145)]
LEAVES = [(45, 105, 60), (40, 125, 95), (55, 85, 50), (50, 95, 120)]
GLASS, TYRE, METAL = (85, 72, 62), (32, 32, 34), (125, 125, 125)
RIM = [(math.cos(k * math.pi / 8), math.sin(k * math.pi / 8)) for k in range(16)]
HEADLIGHT, TAIL_LIGHT = (205, 240, 255), (40, 40, 215)


@dataclass(frozen=True)
class Camera:
    """A level pinhole camera; x is its place across the road, all lengths in metres or pixels."""

    focal: float
    center: float
    horizon: float
    x: float
    height: float

    def pixel(self, x, up, z):
        """Maps a point of the world to (across, down) in pixels."""
        scale = self.focal / max(z, 0.5)
        return self.center + (x - self.x) * scale, self.horizon + (self.height - up) * scale


class Model:
    """Collects the visible polygons of one object, in the order in which they are painted.

    Args:
        camera (Camera): What sees the object.
        x (float): Its place across the road.
        z (float): Its distance from the camera.
        yaw (float): Its heading; 0 drives away from the camera, pi / 2 to the right.
        sun (float): The direction of the light, as a heading.
    """

    def __init__(self, camera, x, z, yaw, sun):
        self.camera, self.x, self.z, self.yaw, self.sun = camera, x, z, yaw, sun
        self.sin, self.cos = math.sin(yaw), math.cos(yaw)
        dx = camera.x - x
        self.eye = (dx * self.sin - z * self.cos, dx * self.cos + z * self.sin, camera.height)
        self.shapes = []  # (corners in pixels, colour, whether it shines)

    def pixel(self, point):
        forward, right, up = point
        x = self.x + forward * self.sin + right * self.cos
        return self.camera.pixel(x, up, self.z + forward * self.cos - right * self.sin)

    def polygon(self, points, colour, light=False):
        self.shapes.append(([self.pixel(point) for point in points], colour, light))

    def face(self, points, normal, colour, light=False):
        """One side of a solid: left out when it looks away, shaded by where it looks."""
        if sum(n * (e - p) for n, e, p in zip(normal, self.eye, points[0])) <= 0:
            return
        heading = math.atan2(normal[1], normal[0]) + self.yaw
        side = 0.80 + 0.16 * math.cos(heading - self.sun)
        shade = 1 if light else normal[2] * 1.1 if normal[2] > 0.7 else side
        self.polygon(points, tuple(shade * c for c in colour), light)

    def prism(self, profile, width, colour, window=None):
        """A convex side view, (forward, up) counter-clockwise, stretched across `width`.

        With a `window` colour every steep face gets a pane.
        """
        half = width / 2
        faces = [([(f, side * half, u) for f, u in profile], (0, side, 0)) for side in (-1.0, 1.0)]
        for (f0, u0), (f1, u1) in zip(profile, profile[1:] + profile[:1]):
            length = math.hypot(f1 - f0, u1 - u0)
            quad = [(f0, -half, u0), (f0, half, u0), (f1, half, u1), (f1, -half, u1)]
            faces.append((quad, ((u1 - u0) / length, 0, (f0 - f1) / length)))
        for points, normal in faces:
            self.face(points, normal, colour)
            if window is not None and abs(normal[2]) < 0.9:
                middle = [sum(axis) / len(points) for axis in zip(*points)]
                pane = [[m + 0.8 * (p - m) for p, m in zip(point, middle)] for point in points]
                self.face(pane, normal, window)

    def box(self, forward, width, up, colour):
        """An upright box; `forward` and `up` are (low, high)."""
        (f0, f1), (u0, u1) = forward, up
        self.prism([(f0, u0), (f1, u0), (f1, u1), (f0, u1)], width, colour)

    def limb(self, start, end, width, colour):
        """A round bar: as thick as `width` from wherever it is seen."""
        (x0, y0), (x1, y1) = self.pixel(start), self.pixel(end)
        half = width / 2 * self.camera.focal / self.z / max(math.hypot(x1 - x0, y1 - y0), 1e-6)
        u, v = half * (y0 - y1), half * (x1 - x0)
        corners = [(x0 + u, y0 + v), (x1 + u, y1 + v), (x1 - u, y1 - v), (x0 - u, y0 - v)]
        self.shapes.append((corners, colour, False))

    def disc(self, center, radius, colour, light=False, squeeze=1.0, bumps=(1.0,) * 16):
        """A ball; `squeeze` is its height over its width, `bumps` scale the radius on the rim."""
        x, y = self.pixel(center)
        radius *= self.camera.focal / self.z
        rim = [(x + radius * b * c, y + radius * b * squeeze * s) for b, (c, s) in zip(bumps, RIM)]
        self.shapes.append((rim, colour, light))


def wheel_rim(forward, radius, right=0.0, size=1.0):
    """The rim of a wheel that stands on the ground, `size` times as large as the wheel."""
    reach = radius * size
    return [(forward + reach * c, right, radius + reach * s) for c, s in RIM]


def wheels(model, forward, radius, width):
    """The two wheels of an axle, from outside, and the arches above them."""
    for side in (-1, 1):
        for size, colour in ((1.25, (22, 22, 22)), (1, TYRE), (0.5, METAL)):
            rim = wheel_rim(forward, radius, side * (width / 2 + 0.02), size)
            if size > 1:
                rim = [(f, r, max(up, radius)) for f, r, up in rim]
            model.face(rim, (0, side, 0), colour)


def lamps(model, front, back, width, low, high):
    """Headlights, tail lights and a licence plate."""
    for forward, sign, colour in ((front + 0.02, 1, HEADLIGHT), (back - 0.02, -1, TAIL_LIGHT)):
        for side in (-1, 1):
            inner, outer = side * width * 0.29, side * width * 0.46
            corners = [(inner, low), (outer, low), (outer, high), (inner, high)]
            model.face([(forward, r, u) for r, u in corners], (sign, 0, 0), colour, light=True)
        plate = [(-0.26, low - 0.2), (0.26, low - 0.2), (0.26, low - 0.08), (-0.26, low - 0.08)]
        model.face([(forward, r, u) for r, u in plate], (sign, 0, 0), (215, 220, 220))


def pick(rng, colours, spread=18):
    return tuple(
        np.clip(np.array(colours[rng.integers(len(colours))]) + rng.normal(0, spread, 3), 0, 255)
    )


def car(model, rng):
    paint, grow = pick(rng, PAINT), rng.uniform(0.93, 1.08)
    estate = rng.random() < 0.35
    length, width, height = 4.1 * grow, 1.78 * grow, 1.46 * grow
    half, waist = length / 2, 0.60 * height
    for forward in (-0.31 * length, 0.31 * length):
        model.box((forward - 0.28, forward + 0.28), 0.92 * width, (0, 0.4), TYRE)
    body = [(-half, 0.26), (half, 0.26), (half, 0.48 * height), (0.30 * length, waist)]
    model.prism(body + [(-half, waist)], width, paint)
    for forward in (-0.31 * length, 0.31 * length):
        wheels(model, forward, 0.33, width)
    tail = -half + 0.05 if estate else -0.44 * length
    roof = (0.08 * length, height), (tail + (0.15 if estate else 0.5), height)
    model.prism([(tail, waist), (0.27 * length, waist), *roof], 0.88 * width, paint, GLASS)
    lamps(model, half, -half, width, 0.40 * height, 0.52 * height)


def truck(model, rng):
    paint, cargo = pick(rng, PAINT), pick(rng, CARGO)
    length, width, height = rng.uniform(6.0, 7.2), 2.4, rng.uniform(2.9, 3.4)
    half, bed = length / 2, length / 2 - 1.9
    axles = (-0.30 * length, half - 0.9)
    for forward in axles:
        model.box((forward - 0.4, forward + 0.4), 2.2, (0, 0.8), TYRE)

    def cabin():
        lower = [(bed + 0.1, 0.5), (half, 0.5), (half, 1.45), (bed + 0.1, 1.45)]
        upper = [(bed + 0.1, 1.45), (half, 1.45), (half - 0.25, 2.5), (bed + 0.1, 2.5)]
        model.prism(lower, width - 0.1, paint)
        model.prism(upper, width - 0.1, paint, GLASS)

    def box():
        model.box((-half, bed), width, (0.75, height), cargo)
        stripe, door = pick(rng, CLOTHES), tuple(0.55 * c for c in cargo)
        for side in (-1, 1):
            r = side * (width / 2 + 0.02)
            low, high = 0.75 + 0.35 * (height - 0.75), 0.75 + 0.6 * (height - 0.75)
            band = [(-half + 0.3, r, low), (bed - 0.3, r, low), (bed - 0.3, r, high)]
            model.face(band + [(-half + 0.3, r, high)], (0, side, 0), stripe)
        for r in (-1.1, -0.03, 1.04):
            seam = [(r, 0.9), (r + 0.07, 0.9), (r + 0.07, height - 0.1), (r, height - 0.1)]
            model.face([(-half - 0.02, a, u) for a, u in seam], (-1, 0, 0), door)

    for part in (cabin, box) if model.eye[0] < bed else (box, cabin):
        part()
    for forward in axles:
        wheels(model, forward, 0.46, width - 0.1)
    lamps(model, half, -half, width, 0.65, 0.85)


def person(model, rng, hip, shoulder, feet, hands, knee_bend, head):
    """Legs, torso, arms and head over given joints (forward, right, up)."""
    trousers, shirt = pick(rng, CLOTHES), pick(rng, CLOTHES)
    sleeve = tuple(0.85 * c for c in shirt)
    skin, hair = pick(rng, SKIN, 6), pick(rng, HAIR, 8)
    hip, shoulder, head = np.array(hip), np.array(shoulder), np.array(head)
    for side, foot, hand in zip((-1, 1), feet, hands):
        start = hip + (0, 0.09 * side, 0)
        knee = (start + foot) / 2 + (knee_bend, 0, 0.04)
        model.limb(start, knee, 0.19, trousers)
        model.limb(knee, foot, 0.15, trousers)
        model.limb(foot, np.add(foot, (0.2, 0, -0.02)), 0.10, TYRE)
        top = shoulder + (0, 0.22 * side, -0.04)
        elbow = (top + hand) / 2 + (-0.04, 0.03 * side, -0.02)
        model.limb(top, elbow, 0.12, sleeve)
        model.limb(elbow, hand, 0.10, sleeve)
        model.disc(hand, 0.06, skin)
    breadth = 0.27 + 0.14 * abs(model.cos)
    model.limb(hip - (0, 0, 0.08), shoulder + (0, 0, 0.03), breadth, shirt)
    model.limb(shoulder, head, 0.11, skin)
    model.disc(head, 0.125, skin, squeeze=1.2)
    if model.cos > 0.7:  # seen from behind
        model.disc(head + (0, 0, 0.02), 0.13, hair, squeeze=1.1)
    model.disc(head + (-0.03, 0, 0.07), 0.12, hair, squeeze=0.75)


def pedestrian(model, rng):
    size, stride = rng.uniform(0.92, 1.08), rng.uniform(-0.32, 0.32)
    feet = [(stride, -0.09, 0.05), (-stride, 0.09, 0.05)]
    hands = [(-0.8 * stride, -0.28, 0.80), (0.8 * stride, 0.28, 0.80)]
    joints = np.array([(0, 0, 0.92), (0.02, 0, 1.42), (0.05, 0, 1.66), *feet, *hands]) * size
    if rng.random() < 0.3:  # a coat over the legs, under the torso
        coat, (hip, low) = pick(rng, CLOTHES), (0.95 * size, 0.48 * size)
        person(model, rng, joints[0], joints[1], joints[3:5], joints[5:7], 0.05, joints[2])
        model.limb((0, 0, hip), (0, 0, low), 0.44, coat)
        return
    person(model, rng, joints[0], joints[1], joints[3:5], joints[5:7], 0.05, joints[2])
    if rng.random() < 0.35:
        model.limb((0, 0.32, 0.75), (0, 0.32, 0.45), 0.26, pick(rng, CLOTHES))


def bicycle(model, colour):
    for forward in (-0.53, 0.53):
        rim = wheel_rim(forward, 0.34)
        for a, b in zip(rim, rim[1:] + rim[:1]):
            model.limb(a, b, 0.075, TYRE)
    back, front, pedals = (-0.53, 0, 0.34), (0.53, 0, 0.34), (-0.05, 0, 0.32)
    saddle, bar = (-0.2, 0, 0.9), (0.4, 0, 0.95)
    for a, b in ((back, pedals), (back, saddle), (pedals, saddle), (pedals, bar), (saddle, bar)):
        model.limb(a, b, 0.06, colour)
    model.limb(front, bar, 0.06, colour)
    model.limb((0.42, -0.28, 1.02), (0.42, 0.28, 1.02), 0.06, TYRE)


def cyclist(model, rng):
    colour, along = pick(rng, PAINT + CLOTHES), abs(model.cos) > 0.7
    if not along:
        bicycle(model, colour)
    turn = rng.uniform(0, 2 * math.pi)
    feet = [
        (-0.05 + 0.16 * math.cos(turn + a), r, 0.34 + 0.16 * math.sin(turn + a))
        for a, r in ((0, -0.12), (math.pi, 0.12))
    ]
    hands = [(0.40, -0.26, 1.05), (0.40, 0.26, 1.05)]
    person(model, rng, (-0.18, 0, 0.98), (0.14, 0, 1.45), feet, hands, 0.2, (0.24, 0, 1.68))
    if along:  # a wheel and the bar are before the rider
        bicycle(model, colour)
    if rng.random() < 0.6:
        model.disc((0.22, 0, 1.77), 0.15, pick(rng, CLOTHES), squeeze=0.55)
    if model.eye[0] < -0.6:
        model.disc((-0.62, 0, 0.75), 0.05, TAIL_LIGHT, light=True)


def tree(model, rng):
    leaves, height = pick(rng, LEAVES), rng.uniform(2.6, 4.6)
    model.limb((0, 0, 0), (0, 0, height), 0.32, (50, 70, 90))
    for shade in (0.7, 0.85, 1.0, 1.1):
        spot = rng.uniform((-0.8, -0.8, -0.5), (0.8, 0.8, 1.2)) + (0, 0, height)
        colour, bumps = tuple(shade * c for c in leaves), rng.uniform(0.8, 1.15, 16)
        model.disc(spot, rng.uniform(0.8, 1.5), colour, bumps=bumps)


def sign(model, rng):
    height = rng.uniform(1.7, 2.6)
    model.limb((0, 0, 0), (0, 0, height), 0.08, METAL)
    rim, inside = [((40, 40, 190), (230, 230, 230)), ((160, 90, 30), (190, 130, 60))][
        rng.integers(2)
    ]
    if rng.random() < 0.6:
        model.disc((0, 0, height), 0.36, rim)
        model.disc((0, 0, height), 0.25, inside)
    else:
        for half, colour in ((0.38, rim), (0.27, inside)):
            corners = [(-half, -half), (half, -half), (half, half), (-half, half)]
            across, forward = -model.cos, -model.sin  # it looks at the camera
            points = [(forward * r, -across * r, height + u) for r, u in corners]
            model.polygon(points, colour)


def lamp_post(model, rng):
    height, reach = rng.uniform(4.5, 6.0), rng.choice((-1.2, 1.2))
    model.limb((0, 0, 0), (0, 0, height), 0.14, (90, 95, 95))
    model.limb((0, 0, height), (0, reach, height + 0.2), 0.10, (90, 95, 95))
    model.disc((0, reach, height + 0.12), 0.20, (150, 215, 245), light=True, squeeze=0.6)


def bin_(model, rng):
    colour = pick(rng, [(60, 80, 55), (70, 70, 75), (60, 110, 140)])
    model.box((-0.28, 0.28), 0.56, (0.05, 0.95), colour)
    model.box((-0.33, 0.33), 0.66, (0.95, 1.08), tuple(0.7 * c for c in colour))


def advertising_column(model, rng):
    model.limb((0, 0, 0), (0, 0, 2.3), 0.95, pick(rng, [(110, 130, 130), (90, 110, 90)]))
    for low, high in ((0.5, 1.2), (1.3, 2.0)):
        model.limb((0, 0, low), (0, 0, high), rng.uniform(0.5, 0.8), pick(rng, CLOTHES))
    model.limb((0, 0, 2.3), (0, 0, 2.5), 1.1, (70, 80, 70))
    model.disc((0, 0, 2.5), 0.42, (60, 75, 65), squeeze=0.6)


def parking_meter(model, rng):
    """About as tall as a small person, with a "head"."""
    colour = pick(rng, [(80, 80, 85), (120, 100, 60)])
    model.limb((0, 0, 0), (0, 0, 1.2), 0.14, (95, 95, 95))
    model.limb((0, 0, 0.95), (0, 0, 1.45), 0.30, colour)
    model.disc((0, 0, 1.5), 0.16, colour)


def bicycle_rack(model, rng):
    """Hoops without bicycles: the wheels of a cyclist and nothing more."""
    colour = pick(rng, [METAL, (60, 60, 60)])
    for forward in (-0.9, 0.0, 0.9)[: rng.integers(2, 4)]:
        arch = [(f, r, 1.15 * u) for f, r, u in wheel_rim(forward, 0.36)]
        for a, b in zip(arch, arch[1:] + arch[:1]):
            model.limb(a, b, 0.07, colour)


def container(model, rng):
    """A truck's box without a truck."""
    colour, half = pick(rng, CARGO + PAINT), rng.uniform(1.6, 2.6)
    model.box((-half, half), 2.2, (0.1, 2.3), colour)
    for side in (-1, 1):
        for f in np.arange(-half + 0.3, half - 0.2, 0.5):
            rib = [(f, 0.2), (f + 0.12, 0.2), (f + 0.12, 2.2), (f, 2.2)]
            points = [(a, side * 1.12, u) for a, u in rib]
            model.face(points, (0, side, 0), tuple(0.75 * c for c in colour))
