"""The one training loop: a recipe -> weights, metrics and a curve, resumable at any step.

`accelerate` brings device, mixed precision, accumulation, data parallelism and state files.
Order of samples, augmentation, masks and drop path are functions of (seed, step), so a run that
was killed and resumed ends with the weights of one that was not (bit-equal on a CPU in float32).
"""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from safetensors.torch import load_file
from torch import Tensor, nn

from vireo.errors import VireoError
from vireo.training import (
    Batch,
    Metrics,
    Step,
    Task,
    checkpoint,
    data,
    export,
    load,
    optim,
    parallel,
    seeds,
    sharded,
)
from vireo.training import recipe as blocks
from vireo.training import schedule as schedules
from vireo.training.loader import ResilientLoader
from vireo.training.metrics_log import MetricsLog
from vireo.utils import batching
from vireo.utils.cli import Progress, log

SAVE_S = 600.0


def train(
    name: str,
    recipe: dict[str, Any],
    config: dict[str, Any],
    threads: int = 0,
    minutes: float | None = None,
) -> Path:
    """Train recipe `name`; returns the path of its weights. A finished run is left as it is.

    `recipe` is the checked block, `config` gives `device`, `tf32`, `max_failed` and what the task
    reads, `minutes` is the time limit of a scheduler's job: shortly before it the run saves and
    stops. Works in the current directory. Under `torchrun` every process calls this.
    """
    terminate = parallel.Terminate(minutes)
    if threads:
        torch.set_num_threads(threads)
    kind = load(recipe["task"])
    task = kind(recipe, config)  # type: ignore[call-arg]
    key = export.digest(recipe, task.fingerprint(), config)
    results = Path("results/training") / name
    if export.finished(results, key):
        log.info("%s is trained already: %s", name, results)
        return results / "weights.safetensors"
    state = Path("cache/training") / name / key
    with ExitStack() as stack:
        stack.enter_context(parallel.gpu(config))
        accelerator = parallel.accelerator(recipe, config, kind)
        if accelerator.is_main_process:
            stack.enter_context(checkpoint.lock(state))
        accelerator.wait_for_everyone()
        run = Run(name, recipe, config, task, accelerator, state)
        run.loop(terminate)
        weights = run.final_weights() if accelerator.is_main_process or run.sharded else {}
        if accelerator.is_main_process:
            export.publish(results, state, name, weights, run.about(key))
            log.info("%s: trained, %s", name, results)
        accelerator.wait_for_everyone()
    return results / "weights.safetensors"


class Run:
    """A run in progress: model, optimiser, position and trace."""

    def __init__(
        self,
        name: str,
        recipe: dict[str, Any],
        config: dict[str, Any],
        task: Task,
        accelerator: Accelerator,
        state: Path,
    ) -> None:
        self.name, self.recipe, self.config, self.task = name, recipe, config, task
        self.accelerator, self.state = accelerator, state
        self.main = accelerator.is_main_process
        self.seed = int(recipe.get("seed", 0))
        self.samples = task.dataset("train")
        self.plan = schedules.plan(recipe, len(self.samples))
        self.cut = data.split(recipe, accelerator.num_processes, accelerator.process_index)
        accelerator.gradient_accumulation_steps = self.cut.accumulate
        torch.manual_seed(seeds.number(self.seed, "model"))
        self.model = task.build()
        # No parallel wrapper around a model whose task runs its own backward passes.
        self.own_backward = type(task).backward is not Task.backward
        self.sharded = bool(recipe.get("fsdp"))
        self.whole = accelerator.prepare_model(
            parallel.Loss(task, self.model), evaluation_mode=self.own_backward or self.sharded
        )
        if self.sharded and accelerator.num_processes > 1:
            sharded.shard(self.whole, task.layers, accelerator.device)
        made = optim.optimizer(task.param_groups(self.model), recipe["optim"])
        self.optim = made if self.sharded else accelerator.prepare_optimizer(made)
        save, restore = checkpoint.hooks(self._trainable, self._restore, self.main)
        accelerator.register_save_state_pre_hook(save)
        accelerator.register_load_state_pre_hook(restore)
        if self.sharded:
            accelerator.register_save_state_pre_hook(self._save_optimizer)
            accelerator.register_load_state_pre_hook(self._load_optimizer)
        self.step, self.drawn = 0, 0
        self.best: dict[str, Any] = {}
        self._resume()
        self.record = MetricsLog(state / "metrics.csv", self.step) if self.main else None
        self.saved_at = time.monotonic()

    # state on disk

    def _trainable(self) -> dict[str, Tensor]:
        tensors = self.task.trainable_state(self.model)
        return sharded.whole(tensors) if self.sharded else tensors

    def _save_optimizer(self, models: Any, weights: Any, folder: str) -> None:
        sharded.save_optimizer(folder, self.whole, self.optim, self.main)

    def _load_optimizer(self, models: Any, folder: str) -> None:
        sharded.load_optimizer(folder, self.whole, self.optim)

    def _restore(self, tensors: dict[str, Tensor]) -> None:
        """Load trainable tensors; the frozen rest stays as built."""
        if wrong := set(self.task.trainable_state(self.model)) ^ set(tensors):
            some = ", ".join(sorted(wrong)[:5])
            raise VireoError(f"the state in {self.state} is of another model ({some}): delete it")
        if self.sharded:
            sharded.restore(self.model, tensors)
        else:
            self.model.load_state_dict(tensors, strict=False)

    def _resume(self) -> None:
        found = checkpoint.newest(self.state)
        if found is None:
            return
        folder, meta = found
        self.accelerator.load_state(str(folder))
        self.step, self.best, self.drawn = meta["step"], meta["best"], meta["drawn"]
        if meta["processes"] != self.accelerator.num_processes:
            log.warning("%s was begun with %d processes", self.name, meta["processes"])
        if self.main:
            log.info("%s: resumed after step %d of %d", self.name, self.step, self.plan.steps)

    def _save(self) -> None:
        """Write a checkpoint; every process takes part."""
        folder = self.state / f".step-{self.step:09d}"
        if self.record is not None:
            self.record.sync()
            checkpoint.begin(folder)
        self.accelerator.wait_for_everyone()
        self.accelerator.save_state(str(folder))
        self.accelerator.wait_for_everyone()
        if self.main:
            meta = {"step": self.step, "best": self.best, "drawn": self.drawn}
            checkpoint.finish(folder, {**meta, "processes": self.accelerator.num_processes})
            self._check_failures()
        self.accelerator.wait_for_everyone()
        self.saved_at = time.monotonic()

    # steps

    def _batches(self) -> Iterator[Batch]:
        order = data.Order(len(self.samples), self.plan, self.cut, self.seed, self.step)
        return iter(
            ResilientLoader(
                self.task,
                self.samples,
                order,
                self.state,
                workers=int(self.recipe.get("workers", 0)),
                pin=self.accelerator.device.type == "cuda",
                timeout_s=float(blocks.decoding(self.config)["timeout_s"]),
            )
        )

    def loop(self, terminate: parallel.Terminate) -> None:
        """Run all steps that are left."""
        left = self.plan.steps - self.step
        if not left:
            return
        batches = self._batches()
        self.model.train()
        with (
            terminate,
            Progress(left if self.main else None, f"training {self.name}", "step") as bar,
        ):
            while self.step < self.plan.steps:
                began = time.monotonic()
                row, stop, due = self._one(batches, terminate)
                self.step += 1
                if self._validation_due() and (numbers := self._validate()):
                    row, due = row | numbers, True
                if self.record is not None:
                    self.record.write({**row, "seconds": round(time.monotonic() - began, 4)})
                last = self.step == self.plan.steps
                if due or stop or last:
                    self._save()
                if stop and not last:
                    raise VireoError(
                        f"asked to stop: {self.name} stands at step {self.step} of "
                        f"{self.plan.steps}; the same command goes on from there"
                    )
                if self.main:
                    bar.update(1, f"loss {row['loss']:.4f}")

    def _one(
        self, batches: Iterator[Batch], terminate: parallel.Terminate
    ) -> tuple[dict[str, Any], bool, bool]:
        """Do an optimiser step; returns its row and, agreed by all, whether to stop, to save."""
        accelerator, step, epoch = self.accelerator, self.step, self.plan.epoch(self.step)
        lr = self.recipe["optim"]["lr"] * self.task.lr_factor * self.plan.factor(step)
        optim.set_lr(self.optim, lr)
        torch.manual_seed(seeds.number(self.seed, "global", step, accelerator.process_index))
        sums: dict[str, Tensor] = {}
        for part in range(self.cut.accumulate):
            batch = next(batches)
            self.drawn += self.cut.micro
            self._note(batch.pop("failures", []))
            batch = send_to_device(batch, accelerator.device, non_blocking=True)
            here = Step(self.seed, step, epoch, self.cut.first(part), accelerator.process_index)
            loss, metrics = self._gradients(batch, here)
            for name, value in {"loss": loss, **metrics}.items():
                number = torch.as_tensor(value, dtype=torch.float32, device=accelerator.device)
                sums[name] = sums.get(name, 0) + number.detach() / self.cut.accumulate
        if self.own_backward:
            parallel.average_gradients(accelerator, self.model)
        numbers = torch.stack([*sums.values()])
        asked = [float(terminate.asked), float(self._save_due())]
        flags = torch.tensor(asked, device=numbers.device)
        told = accelerator.reduce(torch.cat([flags, numbers]), "mean").tolist()
        row = {"step": step + 1, "epoch": epoch, "lr": lr, **dict(zip(sums, told[2:], strict=True))}
        self._demand_finite(torch.tensor(row["loss"]), "loss")
        if accelerator.scaler is not None:
            accelerator.unscale_gradients(self.optim)
        norm = sharded.full(optim.grad_norm(self.model))
        if accelerator.scaler is None:  # a loss scaler skips such steps by itself
            self._demand_finite(norm, "gradient")
        if limit := self.recipe["optim"].get("clip"):
            nn.utils.clip_grads_with_norm_(self.model.parameters(), float(limit), norm)
        row["grad_norm"] = norm.item()
        self.optim.step()
        self.optim.zero_grad(set_to_none=True)
        return row, told[0] > 0, told[1] > 0

    def _gradients(self, batch: Batch, step: Step) -> tuple[Tensor, Metrics]:
        try:
            with self.accelerator.accumulate(self.whole):
                if self.sharded:
                    sharded.synchronise(self.whole, self.accelerator.sync_gradients)
                done = self.task.backward(self.model, batch, step, self.accelerator)
                if done is None:
                    done = self.whole(batch, step)
                    self.accelerator.backward(done[0])
                return done
        except RuntimeError as error:
            if batching.is_out_of_memory(error):
                raise VireoError(
                    f"out of memory at step {step.step} with {self.cut.micro} samples at once: set "
                    "micro_batch in the recipe, arch.checkpoint_num, or use more processes"
                ) from error
            raise

    def _demand_finite(self, value: Tensor, what: str) -> None:
        if not value.isfinite():
            found = checkpoint.newest(self.state)
            last = found[0] if found else "none yet"
            raise VireoError(
                f"{self.name}: the {what} of step {self.step + 1} is {value.item()}; the weights "
                f"were not changed by it. Last good checkpoint: {last}. Lower optim.lr or check "
                "the data"
            )

    # beside the steps

    def _save_due(self) -> bool:
        """Whether a checkpoint follows this step (by steps: all processes agree; by time: main)."""
        every = self.recipe.get("save_steps")
        late = time.monotonic() - self.saved_at >= float(self.recipe.get("save_every") or SAVE_S)
        return bool(every and (self.step + 1) % int(every) == 0) or (self.main and late)

    def _validation_due(self) -> bool:
        every = float(self.recipe.get("validate_epochs") or 1) * self.plan.steps_per_epoch
        return self.step == self.plan.steps or self.step % max(1, round(every)) == 0

    def _validate(self) -> dict[str, float]:
        self.model.eval()
        with torch.no_grad():
            numbers = self.task.validate(self.model)
        self.model.train()
        self._note([{**one, "split": "val"} for one in numbers.pop("failures", [])])
        if self.task.best and self.task.best[0] in numbers:
            metric, direction = self.task.best
            value, sign = numbers[metric], 1 if direction == "max" else -1
            if not self.best or sign * value > sign * self.best["value"]:
                file = f"best-{self.step:09d}.safetensors"
                tensors = self._trainable()
                if self.main:
                    export.write_tensors(self.state / file, tensors, {})
                self.best = {"metric": metric, "value": value, "step": self.step, "file": file}
        return {f"val_{name}": value for name, value in numbers.items()}

    def _note(self, failed: list[dict[str, Any]]) -> None:
        if failed:
            path = self.state / f"failures-{self.accelerator.process_index}.jsonl"
            with open(path, "a", encoding="utf-8") as out:
                out.writelines(json.dumps(entry) + "\n" for entry in failed)

    def _check_failures(self) -> None:
        share = float(self.config.get("max_failed", 0.2))
        # Each video counts once, against the samples met so far; those of validation do not.
        failed = [one for one in export.failures(self.state) if one.get("split") != "val"]
        met = min(self.drawn * self.accelerator.num_processes, len(self.samples))
        if len(failed) > share * met:
            raise VireoError(
                f"{len(failed)} of {met} training videos cannot be read, more than max_failed "
                f"({share:g}); first: {failed[0]['video']}: {failed[0]['error']}. "
                f"All: {self.state}/failures-*.jsonl"
            )

    def final_weights(self) -> dict[str, Tensor]:
        """Weights of the last step, or of the best one if the task validates."""
        if self.best:
            self._restore(load_file(self.state / self.best["file"]))
        tensors = self.task.weights(self.model)
        return sharded.whole(tensors) if self.sharded else tensors

    def about(self, key: str) -> dict[str, Any]:
        """What recipe.json says of the run itself."""
        assert self.record is not None
        return {
            "digest": key,
            "block": self.recipe,
            "outside": self.task.fingerprint(),
            "steps": self.step,
            "samples": len(self.samples),
            "processes": self.accelerator.num_processes,
            "device": str(self.accelerator.device),
            "seconds": round(self.record.seconds, 1),
            "labels": getattr(self.task, "labels", None),  # names of a head's rows
            "best": {name: value for name, value in self.best.items() if name != "file"},
        }
