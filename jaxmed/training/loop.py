"""The training loop: phases of epochs of steps.

Read from top to bottom: `Loop.run` carries out the strategy's phases; `_run_phase` a
phase's epochs, each followed by validation and a checkpoint; `_train_epoch` an epoch's
steps. The step itself is `jaxmed.training.step`, its inputs are made by
`jaxmed.training.inputs`.
"""

import math
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from jaxmed.checkpoints.checkpoint import Checkpoints
from jaxmed.data.dataset import Dataset
from jaxmed.errors import InputError
from jaxmed.evaluation.predictions import Predictions
from jaxmed.inference.forward import (
    as_predictions,
    compute_logits,
    eval_parts,
    evaluation_batch,
)
from jaxmed.models.classifier import Classifier
from jaxmed.models.outputs import probabilities
from jaxmed.models.parameters import Arrays, load
from jaxmed.runtime import distributed
from jaxmed.runtime.interrupts import defer_signals, stop_if_requested, stop_requested
from jaxmed.runtime.progress import Advance, progress
from jaxmed.runtime.sharding import replicate, to_host
from jaxmed.strategies import Phase, Strategy
from jaxmed.training.config import TrainingConfig
from jaxmed.training.identity import identify
from jaxmed.training.inputs.pipeline import InputPipeline, PhaseInputs
from jaxmed.training.log import TrainingLog
from jaxmed.training.loss import image_hits, mean_loss
from jaxmed.training.model_selection import plateau_factor, validation_scores
from jaxmed.training.state import (
    Frozen,
    StepPlan,
    TrainState,
    all_weights,
    begin_phase,
    describe_average,
    zero_totals,
)
from jaxmed.training.step import TrainStep
from jaxmed.training.sync import (
    Diverged,
    SyncInterval,
    check_finite,
    running_averages,
)


@dataclass(frozen=True, kw_only=True)
class PhaseRun:
    """What stays the same in all epochs of a phase.

    Attributes:
        plan: of the training step.
        inputs: training steps and validation inputs.
        step: the compiled step; of a state, a dispatch's arguments and `scale`.
        frozen: the weights that the phase leaves as they are, on the devices.
        evaluated: the model's definition in eval mode.
    """

    plan: StepPlan
    inputs: PhaseInputs
    step: TrainStep
    frozen: Frozen
    evaluated: Any

    @property
    def phase(self) -> Phase:
        """The phase itself."""
        return self.plan.phase


class Loop:
    """One training.

    Args:
        model: changed in place.
        data: whose train and val splits.
        strategy: fits the model.
        config: the options of training, resolved; see `prepare_training`.
        mesh: the devices.
        checkpoints: where it is saved, and resumed from; None for nowhere.

    Attributes:
        log: history and best weights.
        evaluation_stage: at the end, the stage whose cached input prediction with the
            best weights begins with; None for images.
    """

    def __init__(
        self,
        model: Classifier,
        data: Dataset,
        strategy: Strategy,
        config: TrainingConfig,
        *,
        mesh: Mesh,
        checkpoints: Checkpoints | None,
    ):
        self.model, self.data, self.strategy = model, data, strategy
        self.config, self.mesh, self.checkpoints = config, mesh, checkpoints
        self.pipeline = InputPipeline(data, config, mesh)
        identity = identify(model, data, strategy, config) if checkpoints else {}
        self.log = TrainingLog(strategy, config.select, identity, checkpoints)
        self.evaluation_stage: str | None = None

    # Per training.

    def run(self) -> None:
        """Train to the end; the model is left with the best epoch's weights.

        Raises:
            InputError: checkpoints of another training, or that cannot be written; or
                a loss that is not finite.
            Interrupted: the program is to stop, and all is saved.
        """
        # A signal stops the training after a step, where it can be saved.
        with defer_signals():
            self.log.resume(self.model)
            for number, phase in enumerate(self.strategy.phases):
                if not self.log.is_over(phase):
                    self._run_phase(number, phase)
            load(self.model, self.log.best_weights())
            eval_parts(self.model)
            name = self.log.best["phase"]
            (best,) = [p for p in self.strategy.phases if p.name == name]
            self.evaluation_stage = self.pipeline.evaluation_stage(self.model, best)

    # Per phase.

    def _run_phase(self, number: int, phase: Phase) -> None:
        """Run the epochs that are left of a phase."""
        # Inputs: filling the activation cache counts as time of the first epoch.
        started = time.perf_counter()
        inputs = self.pipeline.for_phase(self.model, phase)
        preparing = time.perf_counter() - started

        # State: trained weights and optimizer, as they were saved if it is resumed.
        images_per_step = self.config.batch_size * self.config.accumulate
        plan = StepPlan.of(
            self.config,
            phase=phase,
            task=self.data.task,
            steps_per_epoch=math.ceil(len(self.data.train) / images_per_step),
            start_stage=inputs.start_stage,
        )
        self._log_average(plan)
        definition, state, frozen = begin_phase(self.model, plan)
        state = self.log.restore(phase, state)
        state, frozen = replicate(state, self.mesh), replicate(frozen, self.mesh)

        # Programs: both are compiled when they are first called.
        key = jax.random.fold_in(jax.random.key(self.config.seed), number)
        run = PhaseRun(
            plan=plan,
            inputs=inputs,
            step=partial(
                inputs.compile_step(definition, plan),
                frozen=frozen,
                key=replicate(key, self.mesh),
            ),
            frozen=frozen,
            evaluated=eval_parts(self.model).definition,
        )

        # Epochs: train, validate, log, save.
        weights = all_weights(state, frozen)
        while not self.log.is_over(phase):
            state, row, predictions = self._run_epoch(run, state, preparing)
            weights, preparing = all_weights(state, frozen), 0.0
            self.log.record(row, weights, state, predictions)
            self._stop_if_requested()

        if phase.restore_best:
            load(self.model, self.log.best_weights(phase))
        else:
            load(self.model, to_host(weights))

    # Per epoch.

    def _run_epoch(
        self, run: PhaseRun, state: TrainState, preparing: float
    ) -> tuple[TrainState, dict[str, Any], Predictions | None]:
        """Train and validate an epoch, or the part that a stopped run has left of it.

        Args:
            run: the phase.
            state: its buffers are given away.
            preparing: seconds that its inputs took, to be added to the epoch's.

        Returns:
            The state after the epoch, its row of the history, and predictions of val.
        """
        epoch, rows = self.log.next_epoch, self.log.rows(run.phase)
        scale = plateau_factor(run.phase, rows)
        count = len(self.data.train)
        # Steps before an interruption count as if they had been done just now.
        started = time.perf_counter() - self.log.steps_done(epoch)[1]

        label = f"{run.phase.name} {len(rows) + 1}/{run.phase.epochs}"
        with progress(label, count, unit="images") as advance:
            if not rows:
                advance(0, step="being compiled")
            state, trained = self._train_epoch(run, state, scale, started, advance)
            seconds = time.perf_counter() - started
            weights = all_weights(state, run.frozen)
            validated, predictions = self._validate(run, weights)
            advance(0, **trained, **validated)

        step = int(state.step)
        row = {
            "phase": run.phase.name,
            "epoch": epoch,
            "step": step,
            **trained,
            **validated,
            **_learning_rates(run.plan, step - 1, scale),
            "seconds": time.perf_counter() - started + preparing,
            "images_per_second": count / seconds,
        }
        # Rounding may differ between machines, and decisions by it must not.
        row = distributed.run_on_process_zero(partial(dict, row))
        return state, row, predictions

    def _train_epoch(
        self,
        run: PhaseRun,
        state: TrainState,
        scale: float,
        started: float,
        advance: Advance,
    ) -> tuple[TrainState, dict[str, float]]:
        """Make the steps of an epoch that are not done yet.

        Args:
            run: the phase.
            state: its buffers are given away.
            scale: a factor on the learning rates.
            started: when the epoch began, by `time.perf_counter`.
            advance: shows progress.

        Returns:
            The state, and loss and accuracy over the whole epoch, by column.

        Raises:
            InputError: the loss, or the weights, are not finite.
        """
        epoch = self.log.next_epoch
        done, _ = self.log.steps_done(epoch)
        if done == 0:
            state = state._replace(totals=replicate(zero_totals(), self.mesh))
        images_per_step = self.config.batch_size * self.config.accumulate
        advance(min(done * images_per_step, len(self.data.train)))

        # Steps: each is dispatched while those before it are computed.
        interval, pending = SyncInterval(), 0
        factor = np.float32(scale)
        try:
            # Closed, so that no images are read ahead of an epoch that is left early.
            with closing(run.inputs.steps(epoch, start=done)) as dispatches:
                for dispatch in dispatches:
                    state = run.step(state, **dispatch.arguments, scale=factor)
                    before, done = done, done + dispatch.steps
                    pending += dispatch.images
                    synchronize = interval.is_due()
                    self._save_mid_epoch(run, state, before, done, started)
                    self._stop_if_requested()
                    if synchronize:
                        advance(pending, **running_averages(state))
                        pending = 0
            trained = running_averages(state)
        except Diverged as diverged:
            step = diverged.step % run.plan.steps_per_epoch
            images = run.inputs.images_of(epoch, step)
            raise self._diverged_at(epoch, step, images) from None
        advance(pending, **trained)
        return state, trained

    def _validate(
        self, run: PhaseRun, weights: Arrays
    ) -> tuple[dict[str, float | None], Predictions | None]:
        """Compute loss, accuracy and scores of the val split, by column.

        Returns:
            And the predictions; None if `evaluation_stage` would give others.
        """
        val, task = self.data.val, self.data.task
        logits = compute_logits(
            run.evaluated,
            weights,
            run.inputs.val,
            preprocessing=self.config.preprocessing,
            mesh=self.mesh,
            batch_size=evaluation_batch(self.data),
            start_stage=run.inputs.val_stage,
        )
        # Where logits overflowed, NumPy warns of it, and the error says what it means.
        with np.errstate(all="ignore"):
            loss = mean_loss(logits, val.labels, task, self.config.loss)
        if not np.isfinite(loss):
            raise InputError(
                f"The validation loss became {loss} in epoch {self.log.next_epoch}. A "
                "lower learning rate usually helps."
            )
        hits, counts = map(np.asarray, image_hits(logits, val.labels, task))
        accuracy = hits.sum(dtype=np.float64) / counts.sum(dtype=np.float64)
        predictions = as_predictions(self.data, "val", probabilities(logits, task))
        columns = {
            "val_loss": loss,
            "val_accuracy": float(accuracy),
            **validation_scores(predictions, self.config.select),
        }
        stage = self.pipeline.evaluation_stage(self.model, run.phase)
        return columns, predictions if run.inputs.val_stage == stage else None

    # After a step.

    def _save_mid_epoch(
        self, run: PhaseRun, state: TrainState, before: int, done: int, started: float
    ) -> None:
        """Save a checkpoint within an epoch, if one is due or the program is to stop.

        Args:
            run: the phase.
            state: copied, not kept.
            before, done: steps of the epoch before and after the last dispatch.
            started: when the epoch began, by `time.perf_counter`.

        Raises:
            Diverged: the state is not worth saving.
            InputError: a checkpoint could not be written.
        """
        if not self.checkpoints:
            return
        self.checkpoints.check()
        interval = self.config.checkpoint_steps
        due = interval and done // interval > before // interval
        # The end of the epoch is saved with its row.
        within = done < run.plan.steps_per_epoch
        if stop_requested() or (due and within):
            check_finite(state)
            self.log.save(
                run.phase.name,
                all_weights(state, run.frozen),
                state,
                steps=done,
                seconds=time.perf_counter() - started,
            )

    def _stop_if_requested(self) -> None:
        """End the training if the program is to stop, once all checkpoints are written.

        Raises:
            InputError: one cannot be written.
            Interrupted: all are written.
        """
        if stop_requested():
            if self.checkpoints:
                distributed.run_on_process_zero(self.checkpoints.wait)
            stop_if_requested()

    def _diverged_at(self, epoch: int, step: int, images: np.ndarray) -> InputError:
        """Return the error of a step whose loss or weights are not finite.

        Args:
            epoch: counted from 1.
            step: of the epoch, counted from 0. Weights that overflow show in the loss
                of the step after.
            images: the train images that the step saw.
        """
        names = ", ".join(self.data.train.ids[index] for index in images.tolist())
        good = ""
        if self.checkpoints:
            # Nothing is saved that is not finite.
            self.checkpoints.wait()
            if latest := self.checkpoints.latest:
                path = self.checkpoints.folder / str(latest)
                good = f" The last good checkpoint is of {latest.describe()}, {path}."
        return InputError(
            "The training loss, or the weights after the step, became infinite or not "
            f"a number in epoch {epoch}, step {step + 1}, on the images {names}. A "
            f"lower learning rate usually helps.{good}"
        )

    def _log_average(self, plan: StepPlan) -> None:
        """Print what a moving average is worth in a phase too short for it."""
        sentence = describe_average(plan.ema, plan.phase.epochs * plan.steps_per_epoch)
        if sentence and distributed.is_process_zero():
            print(f"{plan.phase.name}: {sentence}", file=sys.stderr, flush=True)


def _learning_rates(plan: StepPlan, step: int, scale: float) -> dict[str, float]:
    """Return the groups' learning rates at a step, by column of the history."""
    return {
        f"lr_{group.name}": scale * plan.phase.rate(group, step, plan.steps_per_epoch)
        for group in plan.phase.groups
    }
