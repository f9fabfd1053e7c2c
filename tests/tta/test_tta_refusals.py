"""TTA that cannot work is refused when a config is planned; the message names the setting and a remedy."""

from typing import Any

import pytest

from jaxtrain.config import Config, EvaluationConfig, digest, dumps, loads
from jaxtrain.errors import ConfigError
from jaxtrain.training.plan import make_plan
from tests.conftest import tiny_config


def tta_config(views: str, **changes: Any) -> Config:
    return tiny_config(evaluation=EvaluationConfig(tta=views), **changes)


def test_tta_is_stored_in_the_config_and_changes_its_digest() -> None:
    for views in ("ten_crop(3)", "augmented(2, augment='pad_crop(1)|flip_lr')"):
        config = tta_config(views)
        assert loads(dumps(config)) == config
        assert digest(config) != digest(tiny_config())
    assert digest(tiny_config(evaluation=EvaluationConfig(tta=None))) == digest(tiny_config())


@pytest.mark.parametrize(
    "views", ["flips", "ten_crop(4)", "draws(2)", "augmented(2)", "dense(scales=[4, 6])", "multi_scale([5, 6], size=4)"]
)
def test_tta_that_fits_the_model_can_be_planned(views: str) -> None:
    assert make_plan(tta_config(views)).total_steps == 12


FLAT = "mlp for images of 4x4 does not accept views of 3x3 from ten_crop: "
AS_IT_IS = "draws averages over random draws of the model, but this model draws nothing"
VIT = "vit(patch=2, width=4, depth=1, heads=1, mlp_width=4)"


@pytest.mark.parametrize(
    ("views", "changes", "says"),
    [
        ("ten_crop(5)", {}, ["ten_crop: a crop of 5x5 does not fit in an image of 4x4"]),
        (
            "ten_crop(3)",
            {},
            [FLAT, "(9, 8)", "(16, 8)", "multi_scale(scales=[...], size=4)", "dense also accepts larger images"],
        ),
        ("multi_scale", {}, ["does not accept views of 224x224 from multi_scale"]),
        ("multi_scale(scales=[])", {}, ["multi_scale", "scales=[] must contain at least one size"]),
        ("dense(scales=[3])", {}, ["views of 3x3 from dense: fc1 needs a feature map of at least 4x4"]),
        ("draws(2)", {"model": "mlp(widths=[8])"}, [AS_IT_IS, "all views would be the same"]),
        (
            "draws(2, 'pooling')",
            {},
            ["draws: layers=pooling draws only in fractional pooling, which MLP lacks; set layers=all"],
        ),
        (
            "augmented(2)",
            {"data": tiny_config().data.replace(augment=())},
            ["all 2 views would be the same; set augment"],
        ),
        ("augmented(2, 'cutout(16)')", {}, ["augmented: a square of 16 can hide an image of 4x4"]),
        ("dense(scales=[8])", {"model": VIT}, ["for images of 4x4 does not accept views of 8x8", "positions"]),
    ],
)
def test_tta_that_does_not_fit_the_model_is_refused(views: str, changes: dict[str, Any], says: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        make_plan(tta_config(views, **changes))
    message = str(caught.value)
    assert message.startswith("evaluation.tta: ")
    assert "\n" not in message
    assert "http" not in message
    for part in says:
        assert part in message
