"""Parsing of components on the command line: a registered name or a call, and options, checked as in a config."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxtrain.config.spec import Spec


def parse_component(kind: str, call: str, options: list[str], example: str) -> "Spec":
    """Return the spec of the component that `call`, with `options` such as `depth=34`, names.

    Args:
      kind: kind of component, such as "model" or "schedule".
      call: registered name, or a call with some of the options.
      options: further options, as `OPTION=VALUE`.
      example: an example of an option, for error messages.

    Raises:
      ConfigError: the name or an option does not exist, or a value is invalid.
    """
    from jaxtrain.config.calls import parse_call
    from jaxtrain.config.overrides import read
    from jaxtrain.config.spec import SPECS
    from jaxtrain.errors import ConfigError, did_you_mean
    from jaxtrain.registry import get_registry

    name, unnamed, named = parse_call(call, kind)
    parameters = get_registry(kind)[name].parameters()
    for option in options:
        key, sign, text = option.partition("=")
        if not sign:
            raise ConfigError(f"{option!r} is not an option; write OPTION=VALUE, such as {example}")
        if key not in parameters:
            raise ConfigError(f"{kind} {name} has no option {key!r}{did_you_mean(key, parameters)}", key)
        named[key] = read(text, parameters[key].annotation, key)
    return SPECS[kind](name, *unnamed, **named)
