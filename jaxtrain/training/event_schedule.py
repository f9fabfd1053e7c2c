"""What is due at which step: a function of the step alone, so that a continued run does what an undisturbed one did."""

import dataclasses
from typing import NamedTuple

from jaxtrain.config.duration import Every


class Due(NamedTuple):
    """What is done after a step, in this order."""

    log: bool
    evaluate: bool
    save: bool


@dataclasses.dataclass(frozen=True)
class Calendar:
    """When metrics are logged, the validation split is evaluated and the state is saved; all three at the end."""

    log: Every
    evaluate: Every
    save: Every
    total: int

    def after(self, step: int) -> int:
        """The first step after `step` at which anything is due."""
        return min(self.log.after(step), self.evaluate.after(step), self.save.after(step), self.total)

    def at(self, step: int) -> Due:
        """What is due at `step`. Metrics are logged before an evaluation or a save too, to leave none behind."""
        last = step == self.total
        evaluate = last or self.evaluate.after(step - 1) == step
        save = last or self.save.after(step - 1) == step
        return Due(log=evaluate or save or self.log.after(step - 1) == step, evaluate=evaluate, save=save)
