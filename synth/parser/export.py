"""The trained parser as an ONNX file: batch norms folded, weights stored in half precision, probabilities out.

Inputs: image [N, S, S, 3] uint8 RGB; limbs [N, 7, S/4, S/4] float32. Output: prob [N, 21, S/2, S/2] float32. S is any
multiple of 32. Arithmetic is float32; onnxruntime unpacks the weights once, when it loads the file. Needs the packages
onnx and onnxscript (extra `build`).
"""

from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from fitter.label.parse import LIMB_CHANNELS, LIMB_STRIDE
from fitter.see.crops import CROP
from synth.parser.net import ParserNet

LEAST_SCALE = 1e-2  # of a folded batch norm that is taken apart again
SMALL = 1024  # weights; arrays below this stay float32


class Exported(nn.Module):
    """ParserNet from pixels as they are stored to probabilities."""

    def __init__(self, net: ParserNet, temperature: float):
        super().__init__()
        self.net, self.temperature = folded(net), temperature

    def forward(self, image: Tensor, limbs: Tensor) -> Tensor:
        logits = self.net(image.permute(0, 3, 1, 2).float(), limbs) / self.temperature
        odds = (
            logits - logits.amax(1, keepdim=True)
        ).exp()  # onnxruntime's Softmax over channels is ten times slower
        return odds / odds.sum(1, keepdim=True)


def folded(net: ParserNet) -> ParserNet:
    """The same function on the CPU in evaluation mode, batch norms folded into the convolutions before them."""
    result = ParserNet()
    result.load_state_dict(net.state_dict())
    result.eval()
    for module, conv, norm in list(_normed(result)):
        setattr(module, conv, fuse_conv_bn_eval(getattr(module, conv), getattr(module, norm)))
        setattr(module, norm, nn.Identity())
    return result


def _normed(net: ParserNet):
    """(module, name of a convolution in it, name of the batch norm after that)."""
    yield net, "_conv_stem", "_bn0"
    for smooth in net.smooth:
        yield smooth, "1", "2"
    for block in net._blocks:
        if block.expands:
            yield block, "_expand_conv", "_bn0"
        yield block, "_depthwise_conv", "_bn1"
        yield block, "_project_conv", "_bn2"


def load_exported(net: ParserNet, path: Path, image: Tensor, limbs: Tensor) -> None:
    """Fills the network from an exported one, folded batch norms apart again: the trunk's keep the statistics that
    `net` has, those above take theirs from this batch of inputs. In evaluation mode the same function."""
    import onnx
    from onnx import numpy_helper

    stored = {
        tensor.name.removeprefix("net.").removesuffix("_half"): numpy_helper.to_array(tensor)
        for tensor in onnx.load(str(path)).graph.initializer
    }
    norms = {getattr(module, conv): getattr(module, norm) for module, conv, norm in _normed(net)}
    hooks = []
    for name, conv in net.named_modules():
        if not isinstance(conv, nn.Conv2d):
            continue
        weight, bias = (
            torch.tensor(stored[f"{name}.{kind}"].astype(np.float32)) for kind in ("weight", "bias")
        )
        norm = norms.get(conv)
        if norm is None:
            conv.weight.data, conv.bias.data = weight, bias
        elif name.startswith("smooth"):
            conv.weight.data, norm.bias.data = weight, bias
            hooks.append(conv.register_forward_hook(partial(_take_statistics, norm)))
        else:
            spread = (norm.running_var + norm.eps).sqrt()
            scale = (norm.weight.data.abs() / spread).clamp_min(LEAST_SCALE)
            conv.weight.data = weight / scale[:, None, None, None]
            norm.weight.data, norm.bias.data = scale * spread, bias + scale * norm.running_mean
    with torch.no_grad():
        net.eval()(image, limbs)
    for hook in hooks:
        hook.remove()


def _take_statistics(norm: nn.BatchNorm2d, conv: nn.Conv2d, inputs, output: Tensor) -> None:
    """Gives a batch norm that should only add its bias the statistics of what comes in, and undoes what they do."""
    norm.running_var, norm.running_mean = torch.var_mean(output, (0, 2, 3))
    norm.weight.data = (norm.running_var + norm.eps).sqrt()
    norm.bias.data += norm.running_mean


def export(net: ParserNet, temperature: float, path: Path) -> None:
    """Writes the network; its probabilities are softmax(logits / temperature)."""
    import onnx

    batch, side = torch.export.Dim("batch"), torch.export.Dim("cells", min=1)
    example = (
        torch.zeros(2, CROP, CROP, 3, dtype=torch.uint8),
        torch.zeros(2, LIMB_CHANNELS, CROP // LIMB_STRIDE, CROP // LIMB_STRIDE),
    )
    shapes = (
        {0: batch, 1: 32 * side, 2: 32 * side},
        {0: batch, 2: 8 * side, 3: 8 * side},
    )
    program = torch.onnx.export(
        Exported(net, temperature).eval(),
        example,
        dynamic_shapes=shapes,
        input_names=["image", "limbs"],
        output_names=["prob"],
        dynamo=True,
    )
    model = in_half_precision(program.model_proto)
    onnx.checker.check_model(model)
    Path(path).write_bytes(model.SerializeToString())


def in_half_precision(model):
    """Large float32 initialisers as float16 ones, each followed by a Cast back to float32."""
    from onnx import TensorProto, helper, numpy_helper

    casts, kept = [], []
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if tensor.data_type != TensorProto.FLOAT or values.size < SMALL:
            kept.append(tensor)
            continue
        half = f"{tensor.name}_half"
        kept.append(numpy_helper.from_array(values.astype(np.float16), half))
        casts.append(helper.make_node("Cast", [half], [tensor.name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.initializer.extend(kept)
    model.graph.node.extend(nodes)
    return model
