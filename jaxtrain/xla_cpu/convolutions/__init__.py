"""Convolutions with fast gradients on a CPU.

`convolution` computes the same as `jax.lax.conv_general_dilated`. `primitive.py` defines a primitive with the same name
and parameters. Its lowering for one CPU device calls native kernels (`native.py`, `kernels.cc`) for the convolutions
that `kernel_selection.py` selects, those for which the kernels are faster. Everywhere else, and without a C++ compiler,
it is XLA's convolution.
"""

from jaxtrain.xla_cpu.convolutions.primitive import conv_general_dilated

__all__ = ["conv_general_dilated"]
