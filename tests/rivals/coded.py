"""What every rival gives back, and the clock that it is timed with."""

import dataclasses
import time

import numpy

# Times are of the library's calls alone: what prepares an array for them is not counted, which favours the rival.
LIBRARY = "library"
# Written in numpy to count bits; its time says nothing about what an implementation would need.
NOT_TIMED = "none"


@dataclasses.dataclass
class Coded:
    """One message: its bits, the rows as they are decoded, and seconds."""

    bits: float
    rows: numpy.ndarray
    encode_seconds: float | None = None
    decode_seconds: float | None = None


def clocked(call):
    """(what the call gives, seconds)."""
    begin = time.perf_counter()
    result = call()
    return result, time.perf_counter() - begin


def as_maps(rows):
    """[rows, channels, height, width]; features are channels of one element."""
    shape = list(rows.shape) + [1] * (4 - rows.ndim)
    return rows.reshape(shape)


class Range:
    """Values to `levels` whole numbers and back, between least and greatest of the calibration rows."""

    def __init__(self, rows, axes=None):
        self.low = rows.min(axis=axes, keepdims=axes is not None).astype(numpy.float32)
        high = rows.max(axis=axes, keepdims=axes is not None).astype(numpy.float32)
        self.span = numpy.where(high > self.low, high - self.low, 1).astype(numpy.float32)

    def numbers(self, rows, levels=256):
        scaled = (rows - self.low) * ((levels - 1) / self.span)
        return numpy.clip(numpy.rint(scaled), 0, levels - 1).astype(numpy.uint8)

    def values(self, numbers, levels=256):
        return numbers.astype(numpy.float32) * (self.span / (levels - 1)) + self.low
