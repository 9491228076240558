"""Makes operators.json: one tiny ONNX model per case with inputs and the outputs onnxruntime computes for them.

Run with Python 3, numpy, onnx and onnxruntime: `python3 make_cases.py > operators.json`. The table is committed; this
script is how a case is added.
"""

import json

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

rng = np.random.default_rng(7)
cases = []


def case(name, op, inputs, weights=(), opset=17, order=None, outputs=1, **attributes):
    """`inputs` are fed at run time, `weights` are initialisers; `order` names operands when they interleave."""
    feeds = {f"x{i}": np.asarray(x, np.float32) for i, x in enumerate(inputs)}
    constants = [numpy_helper.from_array(np.asarray(w), f"w{i}") for i, w in enumerate(weights)]
    names = order or [*feeds, *(c.name for c in constants)]
    results = [f"y{i}" for i in range(outputs)]
    node = helper.make_node(op, names, results, name=op.lower(), **attributes)
    declared = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", *x.shape[1:]]) for n, x in feeds.items()
    ]
    produced = [helper.make_tensor_value_info(r, TensorProto.FLOAT, None) for r in results]
    graph = helper.make_graph([node], name, declared, produced, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    model = onnx.shape_inference.infer_shapes(model)
    session = ort.InferenceSession(model.SerializeToString())
    ys = session.run(None, feeds)
    assert all(np.isfinite(y).all() for y in ys), name
    tensor = lambda t: {"shape": list(t.shape), "values": [float(f"{v:.9g}") for v in t.ravel()]}
    cases.append(
        {
            "name": name,
            "model": model.SerializeToString().hex(),
            "inputs": [tensor(x) for x in feeds.values()],
            "outputs": [tensor(y) for y in ys],
        }
    )


def f(*shape):
    return rng.normal(size=shape).astype(np.float32)


def conv(name, x, w, bias=True, **attributes):
    weights = [f(*w)] + ([f(w[0])] if bias else [])
    case(f"conv_{name}", "Conv", [f(*x)], weights, **attributes)


conv("3x3", (2, 3, 6, 5), (4, 3, 3, 3))
conv("no_bias", (1, 3, 5, 5), (2, 3, 3, 3), bias=False, pads=[1, 1, 1, 1])
conv("1x1", (2, 5, 4, 4), (3, 5, 1, 1))
conv("1x1_stride_2", (1, 5, 5, 5), (3, 5, 1, 1), strides=[2, 2])
conv("stride_2_1", (1, 2, 7, 6), (3, 2, 3, 3), strides=[2, 1], pads=[1, 1, 1, 1])
conv("pads_asymmetric", (2, 2, 5, 6), (3, 2, 3, 2), pads=[2, 0, 1, 1])
conv("pads_asymmetric_stride", (1, 2, 6, 6), (3, 2, 3, 3), pads=[0, 0, 1, 1], strides=[2, 2])
conv("dilation", (1, 2, 7, 8), (3, 2, 3, 3), dilations=[2, 3], pads=[2, 3, 2, 3])
conv("groups", (1, 4, 5, 5), (6, 2, 3, 3), group=2, pads=[1, 1, 1, 1])
conv("groups_1x1", (2, 4, 3, 3), (6, 2, 1, 1), group=2)
conv("depthwise", (2, 4, 5, 5), (4, 1, 3, 3), group=4, pads=[1, 1, 1, 1])
conv("depthwise_stride_2_asymmetric", (1, 3, 6, 6), (3, 1, 3, 3), group=3, pads=[0, 0, 1, 1], strides=[2, 2])
conv("depthwise_multiplier", (1, 3, 5, 5), (6, 1, 3, 3), group=3)
conv("many_channels", (1, 20, 4, 4), (18, 20, 3, 3), pads=[1, 1, 1, 1])
conv("kernel_row", (1, 5, 4, 9), (3, 5, 1, 5), pads=[0, 2, 0, 2])
conv("auto_pad_same_upper", (1, 2, 5, 5), (2, 2, 3, 3), auto_pad="SAME_UPPER", strides=[2, 2])

x = f(2, 3, 7, 6)
for name, a in {
    "2x2": dict(kernel_shape=[2, 2], strides=[2, 2]),
    "pads": dict(kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    "pads_asymmetric": dict(kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 0, 1]),
    "ceil": dict(kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
    "ceil_pads": dict(kernel_shape=[3, 3], strides=[3, 3], pads=[1, 1, 1, 1], ceil_mode=1),
    "stride_1": dict(kernel_shape=[3, 2]),
}.items():
    case(f"max_pool_{name}", "MaxPool", [x], **a)
    case(f"average_pool_{name}", "AveragePool", [x], **a)
    if "pads" in name and "ceil" not in name:
        case(f"average_pool_{name}_count_include_pad", "AveragePool", [x], count_include_pad=1, **a)
case("average_pool_ceil_pads_count_include_pad", "AveragePool", [x], kernel_shape=[3, 3], strides=[2, 2],
     pads=[1, 1, 1, 1], ceil_mode=1, count_include_pad=1, opset=19)
case("max_pool_dilation", "MaxPool", [x], kernel_shape=[2, 2], dilations=[2, 3], strides=[1, 2])
case("max_pool_all_negative_pads", "MaxPool", [-abs(x) - 1], kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2])
case("max_pool_all_negative_pads_asymmetric", "MaxPool", [-abs(x) - 1], kernel_shape=[3, 3], pads=[0, 1, 2, 0])
case("global_average_pool", "GlobalAveragePool", [x])

case("batch_normalization", "BatchNormalization", [f(2, 3, 2, 2)], [f(3), f(3), f(3), abs(f(3)) + 0.1], epsilon=1e-3)
case("batch_normalization_rank_2", "BatchNormalization", [f(2, 3)], [f(3), f(3), f(3), abs(f(3)) + 0.1])

case("gemm", "Gemm", [f(3, 4)], [f(4, 5), f(5)])
case("gemm_no_c", "Gemm", [f(3, 4)], [f(4, 5)])
case("gemm_trans_b", "Gemm", [f(2, 4)], [f(5, 4), f(5)], transB=1)
case("gemm_trans_b_scaled", "Gemm", [f(2, 4)], [f(5, 4), f(5)], transB=1, alpha=0.5, beta=-2.0)
case("gemm_c_row_column", "Gemm", [f(1, 4)], [f(4, 3), f(1, 3)], beta=0.25)
case("gemm_c_scalar", "Gemm", [f(2, 4)], [f(4, 3), f(1)])

case("matmul_2d", "MatMul", [f(3, 4)], [f(4, 2)])
case("matmul_batched", "MatMul", [f(2, 3, 4), f(2, 4, 5)])
case("matmul_batched_by_weight", "MatMul", [f(2, 3, 4)], [f(4, 5)])
case("matmul_4d_broadcast", "MatMul", [f(2, 2, 3, 4)], [f(1, 2, 4, 3)])
case("matmul_weight_vector", "MatMul", [f(2, 3, 4)], [f(4)])

x = np.concatenate([f(2, 3, 4).ravel(), [0.0, -0.0, 30.0, -30.0, 3.0, -3.0]]).reshape(2, 3, 5).astype(np.float32)
for op in ["Relu", "Sigmoid", "Tanh", "Neg", "Abs", "HardSwish"]:
    case(op.lower(), op, [x])
case("exp", "Exp", [f(2, 3, 4)])
case("sqrt", "Sqrt", [abs(f(2, 3, 4))])
case("leaky_relu", "LeakyRelu", [x], alpha=0.2)
case("leaky_relu_default", "LeakyRelu", [x])
case("hard_sigmoid", "HardSigmoid", [x], alpha=0.15, beta=0.4)
case("hard_sigmoid_default", "HardSigmoid", [x])
case("clip", "Clip", [x], [np.float32(-0.5), np.float32(0.75)])
case("clip_min_only", "Clip", [x], [np.float32(0.1)])
case("relu_rank_1", "Relu", [f(4)])

for op in ["Add", "Sub", "Mul", "Div", "Max", "Min"]:
    case(f"{op.lower()}_same", op, [f(2, 3, 4), abs(f(2, 3, 4)) + 0.5])
    case(f"{op.lower()}_channel", op, [f(2, 3, 2, 2)], [abs(f(3, 1, 1)) + 0.5])
    case(f"{op.lower()}_scalar", op, [f(2, 3)], [np.float32(1.5)])
case("sub_constant_first", "Sub", [f(2, 3)], [f(3)], order=["w0", "x0"])
case("add_both_broadcast", "Add", [f(2, 3, 1), f(2, 1, 4)])
case("mul_squeeze_excite", "Mul", [f(2, 3, 2, 2), f(2, 3, 1, 1)])

case("softmax_last", "Softmax", [f(2, 3, 4)])
case("softmax_axis_1", "Softmax", [f(2, 3, 4)], axis=1)
case("softmax_axis_negative", "Softmax", [f(2, 3, 4)], axis=-2)
case("softmax_large", "Softmax", [f(2, 5) * 100], axis=1)

case("concat_channels", "Concat", [f(2, 3, 2), f(2, 1, 2)], axis=1)
case("concat_negative_axis", "Concat", [f(2, 3, 2), f(2, 3, 4)], axis=-1)
case("flatten", "Flatten", [f(2, 3, 2, 2)])
case("flatten_axis_2", "Flatten", [f(2, 3, 2, 2)], axis=2)
case("flatten_negative_axis", "Flatten", [f(2, 3, 2, 2)], axis=-1)
case("reshape_copy_and_infer", "Reshape", [f(2, 6, 2)], [np.array([0, -1, 3], np.int64)])
case("reshape_keep_batch", "Reshape", [f(2, 6, 2)], [np.array([0, 2, 2, 3], np.int64)])
case("transpose_nhwc", "Transpose", [f(2, 3, 4, 5)], perm=[0, 2, 3, 1])
case("transpose_last_two", "Transpose", [f(2, 3, 4)], perm=[0, 2, 1])
case("squeeze", "Squeeze", [f(2, 3, 1, 1)], [np.array([2, -1], np.int64)])
case("unsqueeze", "Unsqueeze", [f(2, 3)], [np.array([1, -1], np.int64)])
case("reduce_mean_keep", "ReduceMean", [f(2, 3, 4, 5)], axes=[2, 3], keepdims=1)
case("reduce_mean_drop", "ReduceMean", [f(2, 3, 4, 5)], axes=[-1, -2], keepdims=0)
case("reduce_mean_channel", "ReduceMean", [f(2, 3, 4)], axes=[1], keepdims=0)
case("pad", "Pad", [f(2, 2, 3, 3)], [np.array([0, 0, 1, 2, 0, 1, 0, 3], np.int64), np.float32(-1.5)])
case("pad_zero", "Pad", [f(1, 2, 2)], [np.array([0, 0, 1, 0, 0, 2], np.int64)])
case("global_max_pool", "GlobalMaxPool", [f(2, 3, 4, 5)])
case("lrn_odd", "LRN", [f(2, 7, 3, 2)], size=5, alpha=0.2, beta=0.75, bias=1.5)
case("elu", "Elu", [x], alpha=0.7)
case("softplus", "Softplus", [x])
case("erf", "Erf", [x])
case("log", "Log", [abs(f(2, 3)) + 0.1])
case("pow", "Pow", [abs(f(2, 3)) + 0.1], [np.array([2.0, 0.5, -1.0], np.float32)])
i64 = lambda *v: np.array(v, np.int64)
case("slice", "Slice", [f(2, 6, 5)], [i64(1, -3), i64(5, 99), i64(1, 2)])
case("slice_step", "Slice", [f(2, 7, 3)], [i64(1), i64(-1), i64(1), i64(2)])
case("split", "Split", [f(2, 6, 2)], [i64(1, 3, 2)], outputs=3, axis=1)

for c in cases:
    print(("[" if c is cases[0] else ",") + json.dumps(c, separators=(",", ":")))
print("]")
