#!/usr/bin/env python3
"""A client in Python. Usage: client.py [HOST:PORT]"""

import io
import sys

import numpy as np
import tritonclient.http as triton
from PIL import Image, ImageDraw

client = triton.InferenceServerClient(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:8000", concurrency=8)
if not client.is_model_ready("digits"):
    sys.exit("the server does not serve the model `digits`")


def draw(points):
    """An 8 x 8 gray image of strokes, bright on dark."""
    image = Image.new("L", (8, 8))
    ImageDraw.Draw(image).line(points, fill=255)
    return image


one = draw([(3, 1), (4, 0), (4, 7)])
zero = draw([(3, 0), (5, 1), (5, 6), (3, 7), (2, 6), (2, 1), (3, 0)])

# Several images in one request: floats of 0 to 1, travelling as raw bytes both ways.
batch = np.stack([np.asarray(image, dtype=np.float32)[None] / 255 for image in [one, zero]])
pixels = triton.InferInput("pixels", list(batch.shape), "FP32")
pixels.set_data_from_numpy(batch)
scores = client.infer("digits", [pixels]).as_numpy("logits")
print("read from a batch:", scores.argmax(axis=1))

# Many requests at once: the server's policy decides which are executed together. Priority and a deadline (microseconds)
# are the client's to choose; a request that would be late is answered with status 504.
row = triton.InferInput("pixels", [1, 1, 8, 8], "FP32")
row.set_data_from_numpy(batch[:1])
running = [client.async_infer("digits", [row], request_id=str(i), priority=150, timeout=5_000_000) for i in range(16)]
answers = [request.get_result() for request in running]
print("read at once:", [int(answer.as_numpy("logits").argmax()) for answer in answers])

# An encoded image: the model says how to prepare it, so the server does.
file = io.BytesIO()
zero.resize((64, 64)).save(file, "PNG")
png = triton.InferInput("pixels", [1], "BYTES")
png.set_data_from_numpy(np.array([file.getvalue()], dtype=object))
best = triton.InferRequestedOutput("logits", class_count=3)
print("read from a PNG, score:digit:", [text.decode() for text in client.infer("digits", [png], outputs=[best]).as_numpy("logits")[0]])
