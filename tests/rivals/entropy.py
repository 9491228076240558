"""Code lengths of ideal coders: what an arithmetic coder would come to that loses nothing to rounding and framing.

A rival that is counted so is at an advantage: it pays for no header, no checksum, no frequency table and no bytes that are
not full.
"""

import math

import numpy

# Magnitudes up to here have a symbol of their own; beyond it an escape and an Exp-Golomb code.
PLAIN_MAX = 127
SYMBOLS = 2 * PLAIN_MAX + 2
# Bands of like mean magnitude share tables: half octaves.
CLASSES = 40
# How much the shape that a class is expected to have counts for, in symbols.
PRIOR_SYMBOLS = 8.0
CONTEXTS = 5


def adaptive_bits(symbols, count):
    """Bits of an adaptive coder of order 0 that begins knowing nothing but how many symbols there are (Krichevsky and
    Trofimov's estimator)."""
    counts = numpy.bincount(numpy.asarray(symbols).ravel(), minlength=count)
    gammas = sum(math.lgamma(n + 0.5) - math.lgamma(0.5) for n in counts)
    total = math.lgamma(counts.sum() + count / 2) - math.lgamma(count / 2)
    return (total - gammas) / math.log(2)


def contexts(numbers):
    """What is to the left and above, in [rows, bands, height, width]: 0 (nothing) to 4."""
    level = numpy.minimum(numpy.abs(numbers), 2)
    context = numpy.zeros_like(level)
    context[..., 1:] += level[..., :-1]
    context[..., 1:, :] += level[..., :-1, :]
    return context


def symbols(numbers):
    return numpy.where(numpy.abs(numbers) > PLAIN_MAX, PLAIN_MAX + 1, numbers) + PLAIN_MAX


class StaticCoder:
    """Tables from calibration rows, by class of band and by neighbours, as FF has them."""

    def __init__(self, numbers):
        mean = numpy.abs(numbers).mean(axis=(0, 2, 3))
        self.classes = numpy.clip(numpy.rint((numpy.log2(mean + 2**-8) + 8) * 2), 0, CLASSES - 1).astype(int)
        symbol, context = symbols(numbers), contexts(numbers)
        magnitudes = numpy.abs(numpy.arange(SYMBOLS) - PLAIN_MAX)
        tables = numpy.zeros((CLASSES, CONTEXTS, SYMBOLS))
        for a_class in numpy.unique(self.classes):
            chosen = self.classes == a_class
            index = context[:, chosen] * SYMBOLS + symbol[:, chosen]
            counts = numpy.bincount(index.ravel(), minlength=CONTEXTS * SYMBOLS).reshape(CONTEXTS, SYMBOLS)
            # A two-sided geometric distribution of the class's mean.
            prior = numpy.exp(-magnitudes / max(mean[chosen].mean(), 0.05)) + 1e-9
            of_class = counts.sum(0) + PRIOR_SYMBOLS * prior / prior.sum()
            tables[a_class] = counts + PRIOR_SYMBOLS * of_class / of_class.sum()
        with numpy.errstate(divide="ignore", invalid="ignore"):
            self.lengths = -numpy.log2(tables / tables.sum(axis=2, keepdims=True))

    def bits(self, numbers):
        classes = numpy.broadcast_to(self.classes[None, :, None, None], numbers.shape)
        plain = self.lengths[classes, contexts(numbers), symbols(numbers)].sum()
        escaped = numpy.abs(numbers)[numpy.abs(numbers) > PLAIN_MAX] - PLAIN_MAX
        return plain + (2 * numpy.floor(numpy.log2(escaped)) + 2).sum()
