"""zfp and SZ3, the error-bounded compressors of scientific arrays."""

import numpy
import pysz
import zfpy

from coded import LIBRARY, Coded, as_maps, clocked

# Tolerances relative to the calibration rows' standard deviation; zfp itself takes the next lower power of two.
ZFP_TOLERANCES = ("0.03125", "0.0625", "0.125", "0.25", "0.5", "1", "2", "4", "8", "16", "32")
ZFP_RATES = ("1", "1.5", "2", "3", "4", "6", "8")
SZ3_BOUNDS = ("0.02", "0.035", "0.05", "0.07", "0.1", "0.14", "0.2", "0.3", "0.4", "0.55", "0.8", "1.1", "1.5", "2.2", "3")
SZ3_ALGORITHMS = {
    "sz3": pysz.szAlgorithm.INTERP_LORENZO,
    "sz3-lorenzo": pysz.szAlgorithm.LORENZO_REG,
    "sz3-plain": pysz.szAlgorithm.NOPRED,
}


def planes(rows):
    """All maps in two dimensions, one below the other; what has no maps as rows of features."""
    maps = as_maps(rows)
    count, channels, height, width = maps.shape
    if width >= 4:
        return maps.reshape(count * channels * height, width)
    return maps.reshape(count, channels * height * width)


def volume(rows):
    """All maps in three dimensions; what has no maps as rows of features."""
    maps = as_maps(rows)
    count, channels, height, width = maps.shape
    if width >= 4 and height >= 4:
        return maps.reshape(count * channels, height, width)
    return maps.reshape(count, channels * height * width)


class Zfp:
    """Fixed accuracy or fixed rate."""

    ideal = False
    timed = LIBRARY

    def __init__(self, name, arranged, settings, by_rate=False):
        self.name, self.arranged, self.settings, self.by_rate = name, arranged, settings, by_rate

    def fit(self, rows):
        self.deviation = float(rows.std()) or 1.0

    def code(self, rows, setting):
        array = numpy.ascontiguousarray(self.arranged(rows))
        how = {"rate": float(setting)} if self.by_rate else {"tolerance": float(setting) * self.deviation}
        packed, encode_seconds = clocked(lambda: zfpy.compress_numpy(array, write_header=True, **how))
        back, decode_seconds = clocked(lambda: zfpy.decompress_numpy(packed))
        return Coded(8 * len(packed), back.reshape(rows.shape), encode_seconds, decode_seconds)


class Sz3:
    """An absolute bound."""

    ideal = False
    timed = LIBRARY
    settings = SZ3_BOUNDS

    def __init__(self, name):
        self.name = name

    def fit(self, rows):
        self.deviation = float(rows.std()) or 1.0

    def code(self, rows, setting):
        array = numpy.ascontiguousarray(volume(rows))
        how = pysz.szConfig()
        how.cmprAlgo = SZ3_ALGORITHMS[self.name]
        how.errorBoundMode = pysz.szErrorBoundMode.ABS
        how.absErrorBound = float(setting) * self.deviation
        how.openmp = False
        (packed, _), encode_seconds = clocked(lambda: pysz.sz.compress(array, how))
        (back, _), decode_seconds = clocked(lambda: pysz.sz.decompress(packed, numpy.float32, array.shape))
        return Coded(8 * packed.size, back.reshape(rows.shape), encode_seconds, decode_seconds)


def all():
    return [
        Zfp("zfp", planes, ZFP_TOLERANCES),
        Zfp("zfp-3d", volume, ZFP_TOLERANCES),
        Zfp("zfp-rate", planes, ZFP_RATES, by_rate=True),
        *(Sz3(name) for name in SZ3_ALGORITHMS),
    ]
