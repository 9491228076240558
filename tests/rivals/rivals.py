#!/usr/bin/env python3
"""Public codecs and published methods as rivals of FF, for `bps bench codec --rivals "python3 tests/rivals/rivals.py"`.

Speaks the protocol of README.md over stdin and stdout: it is told calibration rows, says which codecs it has for them, and
then encodes and decodes what it is given.
"""

import json
import struct
import sys

sys.dont_write_bytecode = True  # a benchmark leaves nothing behind in the tree

import numpy

import features
import general
import images
import scientific

PROTOCOL = 1
HEADER_BYTES_MAX = 1 << 20
KINDS = {"f32": numpy.dtype("<f4"), "u8": numpy.dtype("u1")}


class Rivals:
    """The codecs of one value; each is fitted when it is first used."""

    def __init__(self, head, rows):
        if head["type"] == "u8":
            codecs = images.of_inputs()
        else:
            codecs = [*images.of_maps(), *scientific.all(), *general.all(), *features.all(rows, head.get("weights"))]
        self.codecs = {codec.name: codec for codec in codecs}
        self.rows = rows
        self.fitted = set()

    def listed(self):
        return [
            {"name": c.name, "settings": list(c.settings), "ideal": c.ideal, "timed": c.timed} for c in self.codecs.values()
        ]

    def code(self, name, setting, rows):
        codec = self.codecs[name]
        if name not in self.fitted:
            codec.fit(self.rows)
            self.fitted.add(name)
        return codec.code(rows, setting)


def read_exactly(stream, count):
    data = stream.read(count)
    if len(data) != count:
        raise EOFError(f"{count} bytes were announced, {len(data)} came")
    return data


def read(stream):
    """The next message as (head, rows), rows None where it has none; None at the end."""
    length = stream.read(4)
    if not length:
        return None
    (count,) = struct.unpack("<I", length)
    if count > HEADER_BYTES_MAX:
        raise ValueError(f"a header of {count} bytes")
    head = json.loads(read_exactly(stream, count))
    if "shape" not in head:
        return head, None
    kind = KINDS[head["type"]]
    elements = int(numpy.prod(head["shape"], dtype=numpy.int64))
    data = read_exactly(stream, elements * kind.itemsize)
    return head, numpy.frombuffer(data, kind).reshape(head["shape"])


def write(stream, head, rows=None):
    data = b"" if rows is None else numpy.ascontiguousarray(rows).tobytes()
    text = json.dumps(head).encode()
    stream.write(struct.pack("<I", len(text)) + text + data)
    stream.flush()


def answer(rivals, head, rows):
    """(rivals from now on, reply, rows of the reply)."""
    if head["do"] == "fit":
        if head["protocol"] != PROTOCOL:
            raise ValueError(f"protocol {head['protocol']} is unknown, this is {PROTOCOL}")
        rivals = Rivals(head, rows)
        return rivals, {"codecs": rivals.listed()}, None
    if head["do"] == "code":
        coded = rivals.code(head["codec"], head["setting"], rows)
        decoded = numpy.asarray(coded.rows, KINDS[head["type"]])
        if decoded.shape != rows.shape:
            raise ValueError(f"{head['codec']} decoded {decoded.shape}, not {rows.shape}")
        seconds = {"encode_seconds": coded.encode_seconds, "decode_seconds": coded.decode_seconds}
        return rivals, {"bits": float(coded.bits), **seconds}, decoded
    raise ValueError(f"nobody knows how to do {head['do']!r}")


def main():
    # Whatever a library prints must not end up between messages.
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr
    rivals = None
    while (message := read(source)) is not None:
        try:
            rivals, reply, rows = answer(rivals, *message)
        except Exception as error:
            reply, rows = {"error": f"{type(error).__name__}: {error}"}, None
        write(sink, reply, rows)


if __name__ == "__main__":
    main()
