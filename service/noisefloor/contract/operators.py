"""The operators that the conformance suite knows, by name: a service without torch accepts jobs on them."""

from fnmatch import fnmatchcase

OPERATORS: tuple[str, ...] = (
    "quantized::linear",
    "quantized::linear_relu",
    "quantized::linear_dynamic",
    "quantized::linear_dynamic (reduce_range)",
    "quantized::linear_relu_dynamic",
    "quantized::linear_relu_dynamic (reduce_range)",
    "quantized::conv1d",
    "quantized::conv1d_relu",
    "quantized::conv2d",
    "quantized::conv2d_relu",
    "quantized::conv3d",
    "quantized::conv3d_relu",
    "quantized::conv_transpose1d",
    "quantized::conv_transpose2d",
    "quantized::conv_transpose3d",
    "quantized::add",
    "quantized::add_relu",
    "quantized::mul",
    "quantized::mul_relu",
    "quantized::cat",
    "quantized::cat_relu",
    "aten::relu",
    "quantized::relu6",
    "quantized::clamp",
    "quantized::leaky_relu",
    "quantized::elu",
    "quantized::sigmoid",
    "aten::sigmoid",
    "aten::tanh",
    "quantized::hardswish",
    "aten::hardsigmoid",
    "quantized::softmax",
    "quantized::max_pool1d",
    "quantized::max_pool2d",
    "aten::avg_pool1d",
    "aten::avg_pool2d",
    "aten::avg_pool3d",
    "aten::adaptive_avg_pool1d",
    "aten::adaptive_avg_pool2d",
    "aten::adaptive_avg_pool3d",
    "quantized::batch_norm1d",
    "quantized::batch_norm1d_relu",
    "quantized::batch_norm2d",
    "quantized::batch_norm2d_relu",
    "quantized::batch_norm3d",
    "quantized::batch_norm3d_relu",
    "quantized::layer_norm",
    "quantized::group_norm",
    "quantized::instance_norm",
)


def matches(name: str, glob: str) -> bool:
    """Whether a glob means an operator: by its whole name, or by what follows the namespace.

    >>> matches("quantized::conv2d", "conv*"), matches("quantized::conv2d", "aten::*")
    (True, False)
    """
    return fnmatchcase(name, glob) or fnmatchcase(name.partition("::")[2], glob)


def operators(glob: str) -> tuple[str, ...]:
    """The operators that a glob means; none for a name that is not there.

    >>> operators("cat*")
    ('quantized::cat', 'quantized::cat_relu')
    """
    return tuple(name for name in OPERATORS if matches(name, glob))
