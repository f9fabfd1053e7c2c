"""From `data.host` to what is done to pictures while they are decoded: in training, and when the split is looked at."""

from typing import NamedTuple

from jaxtrain.augment.decode.chain import Chain, chain, evaluation_chain
from jaxtrain.augment.decode.sizes import fit
from jaxtrain.config.schema import DataConfig
from jaxtrain.config.spec import HostAugmentationSpec
from jaxtrain.errors import ConfigError


class HostChains(NamedTuple):
    """`training`, for the batches of steps, and `evaluation`, for everything else; of one size."""

    training: Chain
    evaluation: Chain


def host_chains(config: DataConfig, image_shape: tuple[int, int, int], *, encoded: bool = False) -> HostChains | None:
    """What `data.host` and `data.host_eval` say; None where nothing is to be done to pictures on the host.

    Args:
      config: as it was written.
      image_shape: of the data set, of which the channels count where `data.host` is set.
      encoded: whether the images are files of pictures, which `data.stream` alone fits to `image_shape`.

    Raises:
      ConfigError: the images would not be of one size, evaluation would draw, or other settings ask for what only
        a data set in memory has.
    """
    if not config.host:
        _check_without(config)
        if config.stream and encoded:
            fitted = chain([fit(image_shape[0], image_shape[1])])
            return HostChains(fitted, fitted)
        return None
    for name, value, instead in (
        ("resize", config.resize, "add resize(HEIGHT, WIDTH) to data.host"),
        ("pad", config.pad or None, "leave it out, or pad in data.augment, as pad_crop does"),
    ):
        if value is not None:
            raise ConfigError(f"images are not held in memory, since data.host is set; {instead}", f"data.{name}")
    if config.batch_size == "all":
        raise ConfigError("a batch of the whole training split is held in memory: set data.host=[]", "data.batch_size")
    if image_shape[2] not in (1, 3, 4):
        raise ConfigError(f"images of {image_shape[2]} channels are no pictures; set data.host=[]", "data.host")
    training = _chain(config.host, "data.host")
    evaluation = _chain(config.host_eval, "data.host_eval") if config.host_eval else evaluation_chain(training)
    if evaluation.random():
        name = next(s.name for s, part in zip(config.host_eval, evaluation.parts, strict=True) if part.random())
        raise ConfigError(f"{name} draws at random, and evaluation must not; center_crop does not", "data.host_eval")
    if evaluation.size != training.size:
        raise ConfigError(
            f"it gives images of {_text(evaluation)}, and data.host gives {_text(training)}; make them equal",
            "data.host_eval",
        )
    return HostChains(training, evaluation)


def _check_without(config: DataConfig) -> None:
    """Refuses what is for `data.host`, or for it and for `data.stream`, where they are not set."""
    workers = None if config.stream else config.workers
    for name, value in (("host_eval", config.host_eval or None), ("workers", workers)):
        if value is not None:
            raise ConfigError(
                "it is for images that are decoded while training goes on; set data.host too, as in "
                "data.host='random_resized_crop(224)|flip_lr'" + (", or data.stream=true" if name == "workers" else ""),
                f"data.{name}",
            )


def _chain(specs: tuple[HostAugmentationSpec, ...], path: str) -> Chain:
    parts = []
    for place, spec in enumerate(specs):
        try:
            parts.append(spec.build())
        except ConfigError as error:
            raise ConfigError(error.message, f"{path}.{place}") from None
    try:
        return chain(parts)
    except ValueError as error:
        raise ConfigError(str(error), path) from None


def _text(made: Chain) -> str:
    return f"{made.size[1]}x{made.size[0]}"
