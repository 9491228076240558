"""JPEG, WebP and PNG (Pillow: libjpeg-turbo, libwebp, zlib): of feature maps as one grey mosaic, and of the model's input."""

import io
import math

import numpy
from PIL import Image

from coded import LIBRARY, Coded, Range, as_maps, clocked

JPEG_QUALITIES = (2, 5, 10, 20, 30, 50, 70, 80, 90, 95, 98)
WEBP_QUALITIES = (0, 5, 15, 30, 50, 70, 85, 95, 100)
PNG_BITS = (8, 6, 5, 4, 3, 2)

# What makes files small, and what makes it quick.
SMALL = {"JPEG": {"optimize": True}, "WEBP": {"method": 6}, "PNG": {"compress_level": 9}}
QUICK = {"JPEG": {}, "WEBP": {"method": 0}, "PNG": {"compress_level": 1}}


def mosaic(tiles):
    """[tiles, height, width, ...] as one nearly square image."""
    count, height, width = tiles.shape[:3]
    columns = max(1, min(count, math.isqrt(max(1, count * height // max(1, width)))))
    lines = -(-count // columns)
    missing = numpy.zeros((lines * columns - count, *tiles.shape[1:]), tiles.dtype)
    grid = numpy.concatenate([tiles, missing]).reshape(lines, columns, *tiles.shape[1:])
    return grid.swapaxes(1, 2).reshape(lines * height, columns * width, *tiles.shape[3:])


def tiles_of(image, shape):
    """The way back."""
    count, height, width = shape[:3]
    columns = image.shape[1] // width
    grid = image.reshape(-1, height, columns, width, *shape[3:]).swapaxes(1, 2)
    return grid.reshape(-1, *shape[1:])[:count]


def through(kind, image, options):
    """(bits, pixels, encode seconds, decode seconds) of an image file."""
    picture = Image.fromarray(image)
    file = io.BytesIO()
    _, encode_seconds = clocked(lambda: picture.save(file, kind, **options))

    def load():
        opened = Image.open(io.BytesIO(file.getvalue()))
        opened.load()
        return opened

    opened, decode_seconds = clocked(load)
    return 8 * file.tell(), numpy.asarray(opened.convert(picture.mode)), encode_seconds, decode_seconds


class Maps:
    """Feature maps as a grey mosaic of 8 bits, between least and greatest of all channels or of each."""

    ideal = False
    timed = LIBRARY

    def __init__(self, name, kind, settings, options, by_channel=False):
        self.name, self.kind, self.options, self.by_channel = name, kind, options, by_channel
        self.settings = [str(setting) for setting in settings]

    def fit(self, rows):
        self.range = Range(as_maps(rows), (0, 2, 3) if self.by_channel else None)

    def code(self, rows, setting):
        maps = as_maps(rows)
        levels = 1 << int(setting) if self.kind == "PNG" else 256
        options = self.options if self.kind == "PNG" else {"quality": int(setting), **self.options}
        numbers = self.range.numbers(maps, levels)
        shape = (maps.shape[0] * maps.shape[1], *maps.shape[2:])
        bits, image, *seconds = through(self.kind, mosaic(numbers.reshape(shape)), options)
        back = self.range.values(tiles_of(image, shape).reshape(maps.shape), levels)
        return Coded(bits, back.reshape(rows.shape), *seconds)


class Inputs:
    """Images [rows, height, width, channels] as they would be sent instead of activations."""

    ideal = False
    timed = LIBRARY

    def __init__(self, name, kind, settings, options):
        self.name, self.kind, self.options = name, kind, options
        self.settings = [str(setting) for setting in settings]

    def fit(self, rows):
        pass

    def code(self, rows, setting):
        options = self.options if self.kind == "PNG" or "lossless" in self.options else {"quality": int(setting), **self.options}
        tiles = rows[..., 0] if rows.shape[3] == 1 else rows
        bits, image, *seconds = through(self.kind, mosaic(tiles), options)
        return Coded(bits, tiles_of(image, tiles.shape).reshape(rows.shape), *seconds)


def of_maps():
    made = []
    for kind, settings in (("JPEG", JPEG_QUALITIES), ("WEBP", WEBP_QUALITIES), ("PNG", PNG_BITS)):
        name = kind.lower()
        made.append(Maps(name, kind, settings, SMALL[kind]))
        made.append(Maps(f"{name}-channel", kind, settings, SMALL[kind], by_channel=True))
        made.append(Maps(f"{name}-quick", kind, settings, QUICK[kind]))
    return made


def of_inputs():
    full = {"subsampling": 0, "optimize": True}
    half = {"subsampling": 2, "optimize": True}
    return [
        Inputs("jpeg-input", "JPEG", JPEG_QUALITIES, full),
        Inputs("jpeg-420-input", "JPEG", JPEG_QUALITIES, half),
        Inputs("webp-input", "WEBP", WEBP_QUALITIES, SMALL["WEBP"]),
        Inputs("webp-lossless-input", "WEBP", ("-",), {"lossless": True, "method": 6}),
        Inputs("png-input", "PNG", ("-",), SMALL["PNG"]),
    ]
