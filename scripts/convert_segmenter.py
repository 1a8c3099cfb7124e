"""Convert MediaPipe's selfie segmentation from TensorFlow Lite into the ONNX file that vidstyle ships.

    npm pack @mediapipe/selfie_segmentation && tar xzf mediapipe-selfie_segmentation-*.tgz
    pip install tflite ai-edge-litert
    python scripts/convert_segmenter.py package/selfie_segmentation_landscape.tflite vidstyle/data/person.onnx

The graph takes a uint8 RGB picture (1, H, W, 3) and gives float32 (1, 1, H, W): how likely each pixel belongs to a
person. Weights stay float16, as they are in the file of TensorFlow Lite, and are cast when the graph is loaded. The
result is compared with what TensorFlow Lite itself computes (`ai-edge-litert`) on the photos that vidstyle ships.
"""

from __future__ import annotations

import argparse
import struct
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import tflite
from onnx import TensorProto, helper, numpy_helper

from vidstyle.graph.writer import IR_VERSION, OPSET

PHOTOS = Path(__file__).resolve().parents[1] / "vidstyle" / "data" / "photos"
TOLERANCE = 0.001
"""Most by which the probability of a pixel may differ from TensorFlow Lite's."""
_RELU, _RELU6 = 1, 3
_SAME = 0


class Converter:
    """Reads the one subgraph of a model, operator by operator; activations become NCHW."""

    def __init__(self, model: tflite.Model) -> None:
        self._model, self._graph = model, model.Subgraphs(0)
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []
        self._constants: dict[int, np.ndarray] = {}
        """Of tensors whose values are known, by number."""
        self._names: dict[int, str] = {}

    def convert(self, credit: str) -> onnx.ModelProto:
        graph = self._graph
        (given,), (made,) = graph.InputsAsNumpy(), graph.OutputsAsNumpy()
        height, width = self._shape(given)[1:3]
        x = self._node("Transpose", self._node("Cast", "picture", to=TensorProto.FLOAT), perm=[0, 3, 1, 2])
        self._names[given] = self._node("Mul", x, self._constant(np.float32(1 / 255)))
        for i in range(graph.OperatorsLength()):
            self._operator(graph.Operators(i))
        self._nodes.append(helper.make_node("Identity", [self._names[made]], ["person"], name="person"))
        body = helper.make_graph(
            self._nodes,
            "person",
            [helper.make_tensor_value_info("picture", TensorProto.UINT8, (1, height, width, 3))],
            [helper.make_tensor_value_info("person", TensorProto.FLOAT, (1, 1, height, width))],
            self._weights,
        )
        opsets = [helper.make_opsetid("", OPSET)]
        converted = helper.make_model(body, opset_imports=opsets, ir_version=IR_VERSION, producer_name="vidstyle")
        helper.set_model_props(converted, {"source": credit, "license": "Apache-2.0"})
        onnx.checker.check_model(converted, full_check=True)
        return converted

    def _operator(self, operator: tflite.Operator) -> None:
        code = self._model.OperatorCodes(operator.OpcodeIndex())
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        kind = code.CustomCode().decode() if code.CustomCode() else tflite.opcode2name(number)
        inputs, (output,) = [int(i) for i in operator.InputsAsNumpy()], operator.OutputsAsNumpy()
        if kind == "DEQUANTIZE":  # float16 weights to float32
            self._constants[output] = self._values(inputs[0])
            return
        self._names[output] = getattr(self, f"_{kind.lower()}")(operator, inputs, int(output))

    def _conv_2d(self, operator: tflite.Operator, inputs: list[int], output: int) -> str:
        options = _options(operator, tflite.Conv2DOptions)
        weight = self._constants[inputs[1]].transpose(0, 3, 1, 2)  # OHWI
        return self._convolution(options, inputs, output, weight, group=1)

    def _depthwise_conv_2d(self, operator: tflite.Operator, inputs: list[int], output: int) -> str:
        options = _options(operator, tflite.DepthwiseConv2DOptions)
        weight = self._constants[inputs[1]].transpose(3, 0, 1, 2)  # 1HWO
        return self._convolution(options, inputs, output, weight, group=len(weight))

    def _convolution(self, options, inputs: list[int], output: int, weight: np.ndarray, *, group: int) -> str:
        strides = options.StrideH(), options.StrideW()
        before, after = [], []
        for side, out, kernel, stride in zip(
            self._shape(inputs[0])[1:3], self._shape(output)[1:3], weight.shape[2:], strides, strict=True
        ):
            missing = max(0, (out - 1) * stride + kernel - side) if options.Padding() == _SAME else 0
            before.append(missing // 2)
            after.append(missing - missing // 2)
        bias = self._weight(self._constants[inputs[2]])
        x = self._node(
            "Conv",
            self._names[inputs[0]],
            self._weight(weight),
            bias,
            strides=strides,
            pads=before + after,
            group=group,
        )
        return self._activated(x, options.FusedActivationFunction())

    def _convolution2dtransposebias(self, operator: tflite.Operator, inputs: list[int], output: int) -> str:
        """MediaPipe's own operator: a transposed convolution whose kernel is as large as its stride."""
        data = operator.CustomOptionsAsNumpy().tobytes()
        _, stride_width, stride_height = struct.unpack_from("<iii", data)
        weight = self._constants[inputs[1]]  # OHWI
        if weight.shape[1:3] != (stride_height, stride_width):
            raise SystemExit(f"the kernel of {weight.shape} is not as large as its stride")
        weight, bias = weight.transpose(3, 0, 1, 2), self._constants[inputs[2]]
        strides = stride_height, stride_width
        return self._node(
            "ConvTranspose", self._names[inputs[0]], self._weight(weight), self._weight(bias), strides=strides
        )

    def _add(self, operator: tflite.Operator, inputs: list[int], output: int) -> str:
        x = self._node("Add", *(self._names[i] for i in inputs))
        return self._activated(x, _options(operator, tflite.AddOptions).FusedActivationFunction())

    def _mul(self, operator: tflite.Operator, inputs: list[int], output: int) -> str:
        x = self._node("Mul", *(self._names[i] for i in inputs))
        return self._activated(x, _options(operator, tflite.MulOptions).FusedActivationFunction())

    def _relu(self, operator: tflite.Operator, inputs: list[int], output: int) -> str:
        return self._node("Relu", self._names[inputs[0]])

    def _hard_swish(self, operator: tflite.Operator, inputs: list[int], output: int) -> str:
        return self._node("HardSwish", self._names[inputs[0]])

    def _logistic(self, operator: tflite.Operator, inputs: list[int], output: int) -> str:
        return self._node("Sigmoid", self._names[inputs[0]])

    def _mean(self, operator: tflite.Operator, inputs: list[int], output: int) -> str:
        if sorted(self._values(inputs[1]).tolist()) != [1, 2]:
            raise SystemExit("a mean over other axes than height and width")
        return self._node("GlobalAveragePool", self._names[inputs[0]])

    def _average_pool_2d(self, operator: tflite.Operator, inputs: list[int], output: int) -> str:
        if tuple(self._shape(output)[1:3]) != (1, 1):
            raise SystemExit("an average pool that is not over the whole picture")
        return self._node("GlobalAveragePool", self._names[inputs[0]])

    def _resize_bilinear(self, operator: tflite.Operator, inputs: list[int], output: int) -> str:
        options = _options(operator, tflite.ResizeBilinearOptions)
        centers = "half_pixel" if options.HalfPixelCenters() else "asymmetric"
        mode = "align_corners" if options.AlignCorners() else centers
        scales = [new / old for new, old in zip(self._shape(output)[1:3], self._shape(inputs[0])[1:3], strict=True)]
        sizes = self._constant(np.array([1, 1, *scales], np.float32))
        x = self._names[inputs[0]]
        return self._node("Resize", x, "", sizes, mode="linear", coordinate_transformation_mode=mode)

    def _activated(self, x: str, function: int) -> str:
        if function == _RELU6:
            return self._node("Clip", x, self._constant(np.float32(0)), self._constant(np.float32(6)))
        if function not in (0, _RELU):
            raise SystemExit(f"activation function {function} is not known here")
        return self._node("Relu", x) if function == _RELU else x

    def _shape(self, tensor: int) -> list[int]:
        return [int(side) for side in self._graph.Tensors(tensor).ShapeAsNumpy()]

    def _values(self, tensor: int) -> np.ndarray:
        found = self._graph.Tensors(tensor)
        kinds = {tflite.TensorType.FLOAT16: np.float16, tflite.TensorType.INT32: np.int32}
        data = self._model.Buffers(found.Buffer()).DataAsNumpy()
        return np.frombuffer(data.tobytes(), kinds[found.Type()]).reshape(self._shape(tensor))

    def half_values_of(self, tensor: int) -> np.ndarray:
        """The float16 values that an operator makes float32 tensor number ``tensor`` of."""
        for i in range(self._graph.OperatorsLength()):
            operator = self._graph.Operators(i)
            if tensor in operator.OutputsAsNumpy():
                return self._values(int(operator.InputsAsNumpy()[0])).astype(np.float32)
        return self._values(tensor).astype(np.float32)

    def _weight(self, values: np.ndarray) -> str:
        return self._node("Cast", self._constant(np.asarray(values, np.float16)), to=TensorProto.FLOAT)

    def _constant(self, values: np.ndarray) -> str:
        name = f"constant_{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(np.ascontiguousarray(values).reshape(values.shape), name))
        return name

    def _node(self, kind: str, *inputs: str, **attributes) -> str:
        name = f"{kind}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name


def _options(operator: tflite.Operator, kind):
    options, table = kind(), operator.BuiltinOptions()
    options.Init(table.Bytes, table.Pos)
    return options


class Reference:
    """TensorFlow Lite on all but the last two operators, MediaPipe's own one and a sigmoid, which are NumPy here."""

    def __init__(self, source: Path) -> None:
        from ai_edge_litert.interpreter import Interpreter

        data = bytearray(source.read_bytes())
        self._model = model = tflite.Model.GetRootAsModel(data, 0)
        graph = model.Subgraphs(0)
        count = graph.OperatorsLength()
        last = graph.Operators(count - 2)
        before, *weights = (int(i) for i in last.InputsAsNumpy())
        kinds = Converter(model)
        self._weight, self._bias = (kinds.half_values_of(i) for i in weights)
        # Vectors of a flatbuffer begin with their length: the graph ends earlier, with another output.
        operators, outputs = (graph._tab.Vector(graph._tab.Offset(field)) for field in (10, 8))
        struct.pack_into("<I", data, operators - 4, count - 2)
        struct.pack_into("<i", data, outputs, before)
        self._interpreter = Interpreter(model_content=bytes(data), num_threads=1)
        self._interpreter.allocate_tensors()

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """The probabilities (H, W) for a uint8 RGB picture."""
        interpreter = self._interpreter
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], picture[None].astype(np.float32) / 255)
        interpreter.invoke()
        x = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0]
        height, width, _ = x.shape
        y = np.einsum("yxi,oabi->yaxbo", x, self._weight).reshape(2 * height, 2 * width) + self._bias
        return 1 / (1 + np.exp(np.clip(-y, -80, 80)))


def difference(source: Path, converted: onnx.ModelProto) -> float:
    """The most by which a pixel differs from what TensorFlow Lite says of the shipped photos."""
    session = onnxruntime.InferenceSession(converted.SerializeToString())
    _, height, width, _ = session.get_inputs()[0].shape
    reference, worst = Reference(source), 0.0
    for photo in sorted(PHOTOS.glob("*.jpg")):
        rgb = np.ascontiguousarray(cv2.imread(str(photo))[..., ::-1])
        picture = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)
        ours = session.run(None, {"picture": picture[None]})[0][0, 0]
        worst = max(worst, float(np.abs(ours - reference(picture)).max()))
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    model = tflite.Model.GetRootAsModel(arguments.source.read_bytes(), 0)
    credit = f"MediaPipe Selfie Segmentation ({arguments.source.name} of npm @mediapipe/selfie_segmentation)"
    converted = Converter(model).convert(credit)
    arguments.output.write_bytes(converted.SerializeToString())
    apart = difference(arguments.source, converted)
    print(f"{arguments.output}: {arguments.output.stat().st_size} bytes, at most {apart:.5f} from TensorFlow Lite")
    if apart > TOLERANCE:
        raise SystemExit(f"that is more than {TOLERANCE}")


if __name__ == "__main__":
    main()
