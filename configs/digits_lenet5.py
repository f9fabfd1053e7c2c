"""LeNet-5 on scikit-learn's digits."""

from jaxtrain.config import Config, DataConfig


def get_config() -> Config:
    """The recipe."""
    return Config(
        model="lenet5",
        data=DataConfig(dataset="digits", batch_size=64, validation="10%", resize=(32, 32), augment="pad_crop(2)"),
        optimizer="sgd(learning_rate='cosine(0.05, warmup=\"1 epoch\")', momentum=0.9, nesterov=True, weight_decay=5e-4)",
        train_for="40 epochs",
    )
