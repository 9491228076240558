"""zstd and lz4 over FP32, half precision and 8 bits, with and without byte shuffle; and plain intN between the extremes."""

import lz4.block
import numpy
import zstandard

from coded import LIBRARY, NOT_TIMED, Coded, Range, as_maps, clocked
from entropy import adaptive_bits

LEVELS = {"zstd": ("1", "3", "19"), "lz4": ("0", "9")}
MINMAX_BITS = ("2", "3", "4", "5", "6", "7", "8")


def shuffled(data, size):
    """All first bytes, then all second ones ..."""
    return numpy.frombuffer(data, numpy.uint8).reshape(-1, size).T.tobytes()


def unshuffled(data, size):
    return numpy.frombuffer(data, numpy.uint8).reshape(size, -1).T.tobytes()


def squeeze(library, level, data):
    if library == "zstd":
        compressor = zstandard.ZstdCompressor(level=level)
        return clocked(lambda: compressor.compress(data))
    if level == 0:
        return clocked(lambda: lz4.block.compress(data))
    return clocked(lambda: lz4.block.compress(data, mode="high_compression", compression=level))


def stretch(library, packed):
    if library == "zstd":
        decompressor = zstandard.ZstdDecompressor()
        return clocked(lambda: decompressor.decompress(packed))
    return clocked(lambda: lz4.block.decompress(packed))


class Bytes:
    """A number format, perhaps shuffled, through zstd or lz4."""

    ideal = False
    timed = LIBRARY

    def __init__(self, library, size, is_shuffled):
        format = {4: "f32", 2: "f16", 1: "int8"}[size]
        self.name = f"{library}-{format}" + ("-shuffle" if is_shuffled else "")
        self.library, self.size, self.is_shuffled = library, size, is_shuffled
        self.settings = LEVELS[library]

    def fit(self, rows):
        self.range = Range(rows)

    def code(self, rows, setting):
        numbers = {4: lambda: rows, 2: lambda: rows.astype("<f2"), 1: lambda: self.range.numbers(rows)}[self.size]()
        data = numbers.tobytes()
        data = shuffled(data, self.size) if self.is_shuffled else data
        packed, encode_seconds = squeeze(self.library, int(setting), data)
        data, decode_seconds = stretch(self.library, packed)
        data = unshuffled(data, self.size) if self.is_shuffled else data
        back = numpy.frombuffer(data, numbers.dtype).reshape(rows.shape)
        back = self.range.values(back) if self.size == 1 else back.astype(numpy.float32)
        return Coded(8 * len(packed), back, encode_seconds, decode_seconds)


class MinMax:
    """So many bits an element, between the calibration rows' extremes, as they are or behind an ideal entropy coder."""

    timed = NOT_TIMED
    settings = MINMAX_BITS

    def __init__(self, name, ideal, by_channel=False):
        self.name, self.ideal, self.by_channel = name, ideal, by_channel

    def fit(self, rows):
        self.range = Range(as_maps(rows), (0, 2, 3) if self.by_channel else None)

    def code(self, rows, setting):
        levels = 1 << int(setting)
        numbers = self.range.numbers(as_maps(rows), levels)
        bits = adaptive_bits(numbers, levels) if self.ideal else numbers.size * int(setting)
        return Coded(bits, self.range.values(numbers, levels).reshape(rows.shape))


def all():
    formats = [(4, False), (4, True), (2, False), (2, True), (1, False)]
    made = [Bytes(library, size, is_shuffled) for library in LEVELS for size, is_shuffled in formats]
    return made + [
        MinMax("intn", False),
        MinMax("intn-channel", False, by_channel=True),
        MinMax("intn-entropy", True),
        MinMax("intn-channel-entropy", True, by_channel=True),
    ]
