"""Convolutions that are trained fast on a CPU too.

`convolution` is `jax.lax.conv_general_dilated` in all but speed: `primitive.py` makes it a primitive of the same name
and parameters, whose lowering for one CPU device calls native kernels (`native.py`, `kernels.cc`) for the convolutions
that `tasks.py` knows them to be faster for. Everywhere else, and where there is no compiler, it is XLA's convolution.
"""

from jaxtrain.xla_cpu.convolutions.primitive import convolution

__all__ = ["convolution"]
