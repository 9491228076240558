"""Published ways to compress features that need no training of the model, written down in numpy. Bits are those of ideal
coders (see entropy.py), so none of them loses anything to an implementation.

clip           clipping and a uniform quantiser (after Cohen, Choi and Bajic, "Lightweight compression of neural network
               feature tensors"): the range has the least squared error on the calibration rows, the outer levels are its ends
ecq            the same with an entropy-constrained quantiser: thresholds and levels by Lloyd's iterations for a price of a bit
csr-rans       asymmetric whole numbers, the zeros left out as in compressed sparse rows, each stream through rANS
pca            channel PCA and equal steps (after Chmiel et al., "Feature map transform coding")
pca-dct4       the same and a DCT of 4x4
...-weighted   the PCA in channels scaled by the root of what an error in them costs at the model's end, as measured by
               `bps bench codec`: so each channel has its own step
"""

import numpy

from coded import NOT_TIMED, Coded, Range, as_maps
from entropy import StaticCoder, adaptive_bits

CLIP_LEVELS = ("2", "3", "4", "5", "6", "8", "12", "16", "24", "32", "64")
# Of the variance, for one bit.
ECQ_PRICES = ("0.0003", "0.001", "0.003", "0.006", "0.012", "0.025", "0.05", "0.1", "0.2", "0.4")
CSR_BITS = ("2", "3", "4", "5", "6", "7", "8")
# Steps relative to the standard deviation.
STEPS = ("0.06", "0.09", "0.125", "0.18", "0.25", "0.35", "0.5", "0.7", "1", "1.4", "2", "2.8", "4", "5.6")
# What is added before rounding down: as FF, less than a half.
ROUNDING = 0.4
SAMPLES_MAX = 200_000
# Keeps channels that seem not to matter from steps without end, as FF does.
WEIGHT_FLOOR = 0.03


def sampled(rows):
    """At most so many values, evenly chosen."""
    flat = rows.ravel()
    return flat[:: max(1, flat.size // SAMPLES_MAX)].astype(numpy.float64)


def cheaper(coder, numbers, count):
    """The tables from calibration or an adaptive coder that knows nothing, whichever needs fewer bits."""
    return min(coder.bits(numbers), adaptive_bits(numbers - numbers.min(), count))


class Clip:
    name = "clip"
    ideal = True
    timed = NOT_TIMED
    settings = CLIP_LEVELS

    def fit(self, rows):
        self.calibration = as_maps(rows)
        self.plans = {}

    def plan(self, count):
        values = sampled(self.calibration)
        lows = {0.0} if values.min() >= 0 else set(numpy.percentile(values, (0, 0.1, 0.5, 2, 5, 10)))
        highs = set(numpy.percentile(values, (75, 80, 85, 90, 93, 95, 97, 98, 99, 99.5, 99.9, 100)))
        best = None
        for low in lows:
            for high in highs:
                if high > low:
                    step = (high - low) / (count - 1)
                    back = numpy.clip(numpy.rint((values - low) / step), 0, count - 1) * step + low
                    best = min(best or (numpy.inf,), (float(((back - values) ** 2).mean()), low, step))
        low, step = best[1:] if best and len(best) == 3 else (0.0, 1.0)
        return low, step, StaticCoder(self.numbers(self.calibration, low, step, count))

    def numbers(self, maps, low, step, count):
        return numpy.clip(numpy.rint((maps - low) / step), 0, count - 1).astype(int)

    def code(self, rows, setting):
        count = int(setting)
        if setting not in self.plans:
            self.plans[setting] = self.plan(count)
        low, step, coder = self.plans[setting]
        numbers = self.numbers(as_maps(rows), low, step, count)
        return Coded(cheaper(coder, numbers, count), (numbers * step + low).reshape(rows.shape))


class Ecq:
    name = "ecq"
    ideal = True
    timed = NOT_TIMED
    settings = ECQ_PRICES
    LEVELS = 64
    ITERATIONS = 40

    def fit(self, rows):
        self.calibration = as_maps(rows)
        self.plans = {}

    def plan(self, price):
        values = numpy.sort(sampled(self.calibration))
        price = price * (values.var() or 1.0)
        levels = numpy.unique(numpy.linspace(values[0], values[-1], self.LEVELS))
        lengths = numpy.zeros(len(levels))
        for _ in range(self.ITERATIONS):
            levels, lengths, thresholds = self.cells(levels, lengths, price)
            places = numpy.searchsorted(values, thresholds)
            sums = numpy.diff(numpy.concatenate([[0.0], values.cumsum()])[numpy.concatenate([[0], places, [values.size]])])
            counts = numpy.diff(numpy.concatenate([[0], places, [values.size]]))
            kept = counts > 0
            levels, lengths = sums[kept] / counts[kept], -numpy.log2(counts[kept] / values.size)
        levels, lengths, thresholds = self.cells(levels, lengths, price)
        coder = StaticCoder(self.numbers(self.calibration, levels, thresholds))
        return levels, thresholds, coder

    @staticmethod
    def cells(levels, lengths, price):
        """Levels that are nearest to anything, bits counted in, and the thresholds between them."""
        kept, thresholds = [0], []
        for at in range(1, len(levels)):
            while True:
                last = kept[-1]
                gap = levels[at] - levels[last]
                threshold = (levels[at] + levels[last]) / 2 + price * (lengths[at] - lengths[last]) / (2 * max(gap, 1e-30))
                if thresholds and threshold <= thresholds[-1]:
                    kept.pop()
                    thresholds.pop()
                    continue
                break
            kept.append(at)
            thresholds.append(threshold)
        return levels[kept], lengths[kept], numpy.array(thresholds)

    @staticmethod
    def numbers(maps, levels, thresholds):
        # The level nearest to nothing is 0.
        return numpy.searchsorted(thresholds, maps) - int(numpy.abs(levels).argmin())

    def code(self, rows, setting):
        if setting not in self.plans:
            self.plans[setting] = self.plan(float(setting))
        levels, thresholds, coder = self.plans[setting]
        numbers = self.numbers(as_maps(rows), levels, thresholds)
        back = levels[numbers + int(numpy.abs(levels).argmin())]
        return Coded(cheaper(coder, numbers, len(levels)), back.reshape(rows.shape))


class CsrRans:
    name = "csr-rans"
    ideal = True
    timed = NOT_TIMED
    settings = CSR_BITS

    def fit(self, rows):
        self.range = Range(rows)

    def code(self, rows, setting):
        levels = 1 << int(setting)
        step = self.range.span / (levels - 1)
        # Nought is a whole number, as in asymmetric quantisation.
        nought = numpy.clip(numpy.rint(-self.range.low / step), 0, levels - 1)
        numbers = numpy.clip(numpy.rint(rows / step) + nought, 0, levels - 1).astype(int)
        back = ((numbers - nought) * step).astype(numpy.float32)
        # The shape of the matrix is free: the best one counts.
        extents = {int(numpy.prod(rows.shape[at:])) for at in range(1, rows.ndim)}
        bits = min(self.matrix_bits(numbers.reshape(-1, extent) - int(nought), levels) for extent in extents)
        return Coded(bits, back)

    @staticmethod
    def matrix_bits(matrix, levels):
        lines, columns = numpy.nonzero(matrix)
        counts = numpy.bincount(lines, minlength=len(matrix))
        if not len(lines):
            return adaptive_bits(counts, 2)
        # Columns as what is left out between them.
        gaps = numpy.diff(columns, prepend=-1) - 1
        is_first = numpy.diff(lines, prepend=-1) > 0
        gaps[is_first] = columns[is_first]
        values = matrix[lines, columns]
        streams = ((counts, counts.max() + 1), (gaps, gaps.max() + 1), (values - values.min(), levels))
        return sum(adaptive_bits(stream, int(count)) for stream, count in streams)


def dct(size):
    frequency, place = numpy.arange(size)[:, None], numpy.arange(size)[None]
    matrix = numpy.sqrt(2 / size) * numpy.cos(numpy.pi * frequency * (2 * place + 1) / (2 * size))
    matrix[0] /= numpy.sqrt(2)
    return matrix


class Pca:
    """Channels in the basis of their covariance, perhaps blocks in that of the DCT, all with one step."""

    ideal = True
    timed = NOT_TIMED
    settings = STEPS

    def __init__(self, name, has_dct, weights=None):
        self.name, self.has_dct, self.weights = name, has_dct, weights

    def fit(self, rows):
        maps = as_maps(rows).astype(numpy.float64)
        channels = maps.shape[1]
        scale = numpy.ones(channels)
        if self.weights is not None:
            weights = numpy.asarray(self.weights, numpy.float64)
            weights = (weights + weights.mean()) / 2
            scale = numpy.sqrt(weights / weights.mean() + WEIGHT_FLOOR)
            scale /= numpy.exp(numpy.log(scale).mean())
        self.mean = maps.mean(axis=(0, 2, 3))
        centred = (maps - self.mean[:, None, None]).transpose(1, 0, 2, 3).reshape(channels, -1) * scale[:, None]
        _, basis = numpy.linalg.eigh(centred @ centred.T / centred.shape[1])
        self.forward = basis[:, ::-1].T * scale
        self.backward = basis[:, ::-1] / scale[:, None]
        self.deviation = float(centred.std()) or 1.0
        self.calibration = self.coefficients(maps)
        self.coders = {}

    def coefficients(self, maps):
        """[rows, channels * coefficients of a block, blocks down, blocks across]"""
        turned = numpy.einsum("kc,nchw->nkhw", self.forward, maps - self.mean[:, None, None], optimize=True)
        if not self.has_dct:
            return turned
        count, channels, height, width = turned.shape
        tall, wide = min(4, height), min(4, width)
        turned = numpy.pad(turned, ((0, 0), (0, 0), (0, -height % tall), (0, -width % wide)), "edge")
        down, across = turned.shape[2] // tall, turned.shape[3] // wide
        blocks = turned.reshape(count, channels, down, tall, across, wide)
        turned = numpy.einsum("ui,ncdiaj,vj->ncuvda", dct(tall), blocks, dct(wide), optimize=True)
        return turned.reshape(count, channels * tall * wide, down, across)

    def maps(self, coefficients, shape):
        count, channels, height, width = shape
        if self.has_dct:
            tall, wide = min(4, height), min(4, width)
            down, across = coefficients.shape[2:]
            blocks = coefficients.reshape(count, channels, tall, wide, down, across)
            blocks = numpy.einsum("ui,ncuvda,vj->ncdiaj", dct(tall), blocks, dct(wide), optimize=True)
            coefficients = blocks.reshape(count, channels, down * tall, across * wide)[:, :, :height, :width]
        back = numpy.einsum("ck,nkhw->nchw", self.backward, coefficients, optimize=True)
        return back + self.mean[:, None, None]

    @staticmethod
    def numbers(coefficients, step):
        return (numpy.sign(coefficients) * numpy.floor(numpy.abs(coefficients) / step + ROUNDING)).astype(int)

    def code(self, rows, setting):
        step = float(setting) * self.deviation
        if setting not in self.coders:
            self.coders[setting] = StaticCoder(self.numbers(self.calibration, step))
        maps = as_maps(rows)
        numbers = self.numbers(self.coefficients(maps.astype(numpy.float64)), step)
        # What is less than nothing behind a ReLU stays so: to clip it costs the next layers more than it saves.
        back = self.maps(numbers * step, maps.shape)
        return Coded(self.coders[setting].bits(numbers), back.reshape(rows.shape).astype(numpy.float32))


def all(rows, weights):
    maps = as_maps(rows)
    transforms = [("pca", False)] + ([("pca-dct4", True)] if maps.shape[2] * maps.shape[3] > 1 else [])
    made = [Clip(), Ecq(), CsrRans(), *(Pca(name, has_dct) for name, has_dct in transforms)]
    if weights is not None:
        made += [Pca(f"{name}-weighted", has_dct, weights) for name, has_dct in transforms]
    return made
