"""Saving within an epoch: every so many steps, and when the program is to stop."""

from collections.abc import Callable
from dataclasses import dataclass

from jaxmed.checkpoints.checkpoint import Checkpoints
from jaxmed.runtime import distributed as hosts
from jaxmed.runtime import interrupts
from jaxmed.training.divergence import check_finite
from jaxmed.training.state import TrainState


@dataclass(kw_only=True)
class Interim:
    """What `train_epoch` calls after its steps.

    Attributes:
        saved: where checkpoints go, None for nowhere.
        save: saves a state and how many steps of the epoch are done.
        every: steps between two of them; 0 to save only when asked to stop.
        steps: of the whole epoch, whose end is not saved here.
        done: of them.
    """

    saved: Checkpoints | None
    save: Callable[[TrainState, int], None]
    every: int
    steps: int
    done: int

    def __call__(self, state: TrainState, done: int) -> None:
        """Saves if it is time.

        Raises:
            Diverged: it is, and the state is not worth saving.
            InputError: a checkpoint could not be written.
            Interrupted: the program is to stop, and all is saved.
        """
        before, self.done = self.done, done
        if self.saved:
            self.saved.check()
            due = self.every and done // self.every > before // self.every
            if interrupts.is_asked() or (due and done < self.steps):
                check_finite(state)
                self.save(state, done)
        stop_if_asked(self.saved)


def stop_if_asked(saved: Checkpoints | None) -> None:
    """Ends the training if the program is to stop, once what was saved is written.

    Raises:
        InputError: it cannot be written.
        Interrupted: all is written.
    """
    if interrupts.is_asked():
        if saved:
            hosts.by_first(saved.wait)
        interrupts.stop()
