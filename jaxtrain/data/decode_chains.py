"""The decode transforms of a run, from `data.decode` and `data.decode_eval`: for training and for evaluation."""

from typing import NamedTuple

from jaxtrain.augment.decode.chain import DecodeChain, compose_transforms, default_eval_chain
from jaxtrain.augment.decode.sizes import fit
from jaxtrain.config.schema import DataConfig
from jaxtrain.config.spec import DecodeTransformSpec
from jaxtrain.errors import ConfigError


class DecodeChains(NamedTuple):
    """The decode transforms for training batches and for all other reads; both produce images of one size."""

    training: DecodeChain
    evaluation: DecodeChain


def build_decode_chains(
    config: DataConfig, image_shape: tuple[int, int, int], *, encoded: bool = False
) -> DecodeChains | None:
    """Build the decode transforms of `data.decode` and `data.decode_eval`; return None if images need none.

    Args:
      config: the data config.
      image_shape: the data set's image shape. With `data.decode`, only the channels matter.
      encoded: whether the images are encoded files. With `data.stream` and no `data.decode`, they are resized and
        cropped to `image_shape`.

    Raises:
      ConfigError: the images would differ in size, evaluation would draw at random, or another setting requires a data
        set in memory.
    """
    if not config.decode:
        _check_without(config)
        if config.stream and encoded:
            fitted = compose_transforms([fit(image_shape[0], image_shape[1])])
            return DecodeChains(fitted, fitted)
        return None
    for name, value, instead in (
        ("resize", config.resize, "add resize(HEIGHT, WIDTH) to data.decode"),
        ("pad", config.pad or None, "remove data.pad, or pad in data.augment, as pad_crop does"),
    ):
        if value is not None:
            raise ConfigError(f"data.decode decodes images during training, not into memory; {instead}", f"data.{name}")
    if config.batch_size == "all":
        raise ConfigError(
            "a batch of the whole training split must be in memory; set data.decode=[]", "data.batch_size"
        )
    if image_shape[2] not in (1, 3, 4):
        raise ConfigError(
            f"images have {image_shape[2]} channels, but data.decode needs 1, 3 or 4; set data.decode=[]", "data.decode"
        )
    training = _build_chain(config.decode, "data.decode")
    evaluation = (
        _build_chain(config.decode_eval, "data.decode_eval") if config.decode_eval else default_eval_chain(training)
    )
    if evaluation.random():
        name = next(s.name for s, part in zip(config.decode_eval, evaluation.parts, strict=True) if part.random())
        raise ConfigError(f"{name} draws at random, but evaluation must not; use center_crop", "data.decode_eval")
    if evaluation.size != training.size:
        raise ConfigError(
            f"it produces images of {_format_size(evaluation)}, but data.decode of {_format_size(training)}; "
            "make them equal",
            "data.decode_eval",
        )
    return DecodeChains(training, evaluation)


def _check_without(config: DataConfig) -> None:
    """Reject settings that apply only with `data.decode`, or only with `data.decode` or `data.stream`."""
    workers = None if config.stream else config.workers
    for name, value in (("decode_eval", config.decode_eval or None), ("workers", workers)):
        if value is not None:
            raise ConfigError(
                "it applies only to images that are decoded during training; set data.decode too, as in "
                "data.decode='random_resized_crop(224)|flip_lr'"
                + (", or data.stream=true" if name == "workers" else ""),
                f"data.{name}",
            )


def _build_chain(specs: tuple[DecodeTransformSpec, ...], path: str) -> DecodeChain:
    parts = []
    for index, spec in enumerate(specs):
        try:
            parts.append(spec.build())
        except ConfigError as error:
            raise ConfigError(error.message, f"{path}.{index}") from None
    try:
        return compose_transforms(parts)
    except ValueError as error:
        raise ConfigError(str(error), path) from None


def _format_size(decode: DecodeChain) -> str:
    return f"{decode.size[1]}x{decode.size[0]}"
