"""Checks with tritonclient, results held against onnxruntime."""

import io

import numpy as np
import onnxruntime
import tritonclient.http as triton
from PIL import Image
from serving import TOKEN
from tritonclient.utils import InferenceServerException

# Two implementations of FP32 arithmetic sum in different orders.
TOLERANCE = {"rtol": 1e-4, "atol": 1e-4}


def client_of(server):
    return triton.InferenceServerClient(server.address, concurrency=8)


def digits(server, count):
    """The first scans: pixels of 0 to 16, and labels."""
    rows = np.frombuffer(server.digits.read_bytes(), dtype=np.uint8).reshape(-1, 65)[:count]
    return rows[:, :64].reshape(-1, 8, 8), rows[:, 64]


def inputs_of(server, count):
    return (digits(server, count)[0] / np.float32(16)).astype(np.float32).reshape(-1, 1, 8, 8)


def reference(server, pixels):
    session = onnxruntime.InferenceSession(str(server.model), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: pixels})[0]


def tensor(pixels, name="pixels", binary=True):
    given = triton.InferInput(name, list(pixels.shape), "FP32")
    given.set_data_from_numpy(pixels, binary_data=binary)
    return given


def status_of(call):
    """The status and the words of a call that is refused."""
    try:
        call()
    except InferenceServerException as refused:
        return str(refused.status()), str(refused.message())
    return "200", ""


def questions(tally, server):
    client = client_of(server)
    for name in ["is_server_live", "is_server_ready"]:
        tally.check(name, getattr(client, name)())
    tally.check("is_model_ready", client.is_model_ready("digits") and client.is_model_ready("digits", "1"))
    tally.check("is_model_ready of none", not client.is_model_ready("none"))
    server_metadata = client.get_server_metadata()
    tally.check("server metadata", server_metadata["name"] == "bps" and "statistics" in server_metadata["extensions"])
    metadata = client.get_model_metadata("digits")
    tally.check("metadata", metadata["inputs"] == [{"name": "pixels", "datatype": "FP32", "shape": [-1, 1, 8, 8]}], metadata)
    config = client.get_model_config("digits")
    tally.check("config", config["input"][0]["dims"] == [1, 8, 8] and config["max_batch_size"] > 1, config)
    index = client.get_model_repository_index()
    tally.check("index", [(m["name"], m["state"]) for m in index] == [("digits", "READY")], index)


def every_form_of_request(tally, server):
    client = client_of(server)
    pixels = inputs_of(server, 9)
    expected = reference(server, pixels)
    right = digits(server, 9)[1]
    tally.check("the model reads digits", (expected.argmax(axis=1) == right).mean() > 0.8)
    answers = {}
    for binary_in in [True, False]:
        for binary_out in [True, False, None]:
            wanted = None if binary_out is None else [triton.InferRequestedOutput("logits", binary_data=binary_out)]
            for packing in [None, "gzip", "deflate"]:
                result = client.infer(
                    "digits",
                    [tensor(pixels, binary=binary_in)],
                    outputs=wanted,
                    request_id="r-1",
                    request_compression_algorithm=packing,
                    response_compression_algorithm=packing,
                )
                form = f"binary in {binary_in}, out {binary_out}, packing {packing}"
                answers[form] = result.as_numpy("logits")
                tally.check(form, np.allclose(answers[form], expected, **TOLERANCE), answers[form])
                tally.check(f"id, {form}", result.get_response()["id"] == "r-1")
    first, *others = answers.values()
    tally.check("all forms give the same bits", all(np.array_equal(first, other) for other in others))


def at_the_same_time(tally, server):
    client = client_of(server)
    pixels = inputs_of(server, 64)
    expected = reference(server, pixels)
    running = [client.async_infer("digits", [tensor(pixels[i : i + 1])], request_id=str(i)) for i in range(64)]
    results = [request.get_result() for request in running]
    ids = [result.get_response()["id"] for result in results]
    tally.check("each answer goes to its request", ids == [str(i) for i in range(64)], ids)
    answers = np.concatenate([result.as_numpy("logits") for result in results])
    tally.check("64 requests at once", np.allclose(answers, expected, **TOLERANCE))
    stats = client.get_inference_statistics("digits")["model_stats"][0]
    tally.check("statistics count", stats["inference_count"] >= 64 and stats["execution_count"] >= 1, stats)
    times = stats["inference_stats"]
    tally.check("statistics add up", times["success"]["count"] >= 64 and times["success"]["ns"] >= times["queue"]["ns"], times)
    tally.check("statistics of all", client.get_inference_statistics()["model_stats"][0]["name"] == "digits")


def images(tally, server):
    client = client_of(server)
    grey = (digits(server, 3)[0].astype(np.float32) * 255 / 16).round().astype(np.uint8)
    expected = reference(server, (grey / np.float32(255)).astype(np.float32).reshape(-1, 1, 8, 8))
    packed = []
    for picture in grey:
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "PNG")
        packed.append(file.getvalue())
    encoded = triton.InferInput("pixels", [3], "BYTES")
    encoded.set_data_from_numpy(np.array(packed, dtype=object))
    answer = client.infer("digits", [encoded]).as_numpy("logits")
    tally.check("PNG images", np.allclose(answer, expected, **TOLERANCE), answer)
    for binary in [True, False]:
        raw = triton.InferInput("pixels", [3, 8, 8, 1], "UINT8")
        raw.set_data_from_numpy(grey.reshape(3, 8, 8, 1), binary_data=binary)
        answer = client.infer("digits", [raw]).as_numpy("logits")
        tally.check(f"UINT8 pixels, binary {binary}", np.allclose(answer, expected, **TOLERANCE), answer)
    wanted = [triton.InferRequestedOutput("logits", class_count=1)]
    classes = client.infer("digits", [raw], outputs=wanted).as_numpy("logits")
    best = [int(text.decode().split(":")[1]) for text in classes.reshape(-1)]
    tally.check("classification", best == expected.argmax(axis=1).tolist(), classes)
    broken = triton.InferInput("pixels", [1], "BYTES")
    broken.set_data_from_numpy(np.array([b"no image"], dtype=object))
    status, words = status_of(lambda: client.infer("digits", [broken]))
    tally.check("a broken image is refused", status == "400", (status, words))


def parameters(tally, server):
    client = client_of(server)
    given = [tensor(inputs_of(server, 1))]
    for more in [{"priority": 7}, {"timeout": 60_000_000}, {"sequence_id": 3, "sequence_start": True, "sequence_end": True}]:
        status, words = status_of(lambda: client.infer("digits", given, **more))
        tally.check(f"accepted: {more}", status == "200", words)


def refusals(tally, server):
    client = client_of(server)
    pixels = inputs_of(server, 1)
    output = triton.InferRequestedOutput
    table = [
        ("no such model", "404", lambda: client.infer("none", [tensor(pixels)])),
        ("no such version", "404", lambda: client.infer("digits", [tensor(pixels)], model_version="9")),
        ("no such input", "400", lambda: client.infer("digits", [tensor(pixels, name="other")])),
        ("no such output", "400", lambda: client.infer("digits", [tensor(pixels)], outputs=[output("other")])),
        ("wrong shape", "400", lambda: client.infer("digits", [tensor(pixels.reshape(1, 64))])),
        ("no rows", "400", lambda: client.infer("digits", [tensor(pixels[:0])])),
        ("too many rows", "400", lambda: client.infer("digits", [tensor(np.repeat(pixels, 5000, axis=0))])),
        ("priority out of range", "400", lambda: client.infer("digits", [tensor(pixels)], priority=256)),
        ("shared memory", "501", client.get_system_shared_memory_status),
        ("metadata of none", "404", lambda: client.get_model_metadata("none")),
        ("load of none", "404", lambda: client.load_model("none")),
        ("load with a config", "501", lambda: client.load_model("digits", config="{}")),
    ]
    for name, expected, call in table:
        status, words = status_of(call)
        tally.check(name, status == expected and words, (status, words))


def repository(tally, server):
    client = client_of(server)
    client.unload_model("digits")
    tally.check("unloaded: not ready", not client.is_model_ready("digits"))
    status, words = status_of(lambda: client.infer("digits", [tensor(inputs_of(server, 1))]))
    tally.check("unloaded: refused", status in ["404", "503"] and words, (status, words))
    client.load_model("digits")
    tally.check("loaded: ready", client.is_model_ready("digits"))
    pixels = inputs_of(server, 2)
    answer = client.infer("digits", [tensor(pixels)]).as_numpy("logits")
    tally.check("loaded: answers", np.allclose(answer, reference(server, pixels), **TOLERANCE))


def token(tally, server):
    client = client_of(server)
    right = {"Authorization": f"Bearer {TOKEN}"}
    given = [tensor(inputs_of(server, 1))]
    tally.check("health needs no token", client.is_server_ready())
    tally.check("without the token", status_of(lambda: client.infer("digits", given))[0] == "401")
    wrong = {"Authorization": "Bearer something-else"}
    tally.check("with a wrong token", status_of(lambda: client.infer("digits", given, headers=wrong))[0] == "401")
    tally.check("with the token", status_of(lambda: client.infer("digits", given, headers=right))[0] == "200")


ALL = [questions, every_form_of_request, at_the_same_time, images, parameters, refusals, repository]
