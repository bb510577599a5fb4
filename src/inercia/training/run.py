"""A training under way: the host's turn between two segments.

It records, shows the progress, lets `records` tell and decide, saves where it is due, and stops where a signal, the
watch or a divergence asks for it.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from inercia.core import check
from inercia.training.checkpoint import Checkpoints
from inercia.training.programs import Begin, Carry, History, Setting, are_finite, divergence, initial
from inercia.training.records import Moment, Watch
from inercia.training.short_records import Made
from inercia.training.signals import stop_for
from inercia.training.supply import Plan, Supply


class Run:
    """A training under way: what it carries, and what it has recorded."""

    def __init__(self, setting: Setting, plan: Plan, supply: Supply, watch: Watch, begin: Begin) -> None:
        self.setting, self.plan, self.supply, self.watch = setting, plan, supply, watch
        self.begin, self.done, self.records = begin, 0, []
        self.carry: Any = None if supply.at_once else initial(setting, supply.source, begin)
        self._diverged: Any = None
        self.checkpoints: Checkpoints | None = None
        self.signals: list[int] = []
        self.several = setting.placement is not None and setting.placement.mesh.is_multi_process

    def resume(self, form: History) -> None:
        """Go on after the newest checkpoint, if there is one."""
        assert self.checkpoints is not None
        found = self.checkpoints.restore(self.carry, form)
        if found is None:
            return
        self.done, self.carry, history, passed = found
        if self.plan.total is not None and self.done > self.plan.total:
            raise ValueError(
                f"the checkpoint stands at iteration {self.done}, beyond the {self.plan.total} that are asked for."
            )
        self.records = [history]
        self.watch.note(history)
        self.supply.expect(self.done, passed)

    def go(self, bar: Any) -> None:
        """Make the iterations, until they are done or something stops them."""
        if self.watch.is_over():
            return
        broken = False
        once, segments = self.supply.at_once, self.supply.segments
        for made in [once(self.begin)] if once else segments(self.carry, self.done):
            self._take(made)
            if not check.is_concrete(made.carry, made.recorded):
                self._mapped()
                continue
            stops, broken = self._told(made) if self.watch.at_each else (False, self._is_broken(self.carry))
            done = self.done
            if not bar.disable:
                bar.set_postfix(loss=f"{float(self.records[-1].loss[-1]):.4g}", refresh=False)
                bar.update(done - bar.n)
            signal = self.checkpoints.agreed(self.signals[0] if self.signals else 0) if self.checkpoints else 0
            if not broken and (self.plan.saves(done) or signal or self.watch.error):
                self._save()
            if self.checkpoints is not None and (signal or self.watch.error):
                self.checkpoints.wait()
            if self.watch.error is not None:
                raise _noted(self.watch.error, done, self.checkpoints)
            if signal:
                stop_for(signal)
            if stops or broken:
                break
        if not broken:
            self._save()

    def diverged(self) -> Any:
        """Return the first iteration whose loss was not, or would not be, finite; -1 if there is none."""
        return divergence(self.carry, np.int32(self.done)) if self._diverged is None else self._diverged

    def history(self) -> History:
        """Return all records."""
        if not self.records[1:]:
            return self.records[0]
        if self.several or not check.is_concrete(self.records):
            return jax.tree.map(lambda *parts: jnp.concatenate(parts), *self.records)
        # On the host: a device's program would be compiled anew for every number and length of them.
        return jax.tree.map(lambda *parts: jnp.asarray(np.concatenate(parts)), *jax.device_get(self.records))

    def _take(self, made: Made) -> None:
        self.done, self.carry, self._diverged = made.done, made.carry, made.diverged
        self.records.append(made.recorded)

    def _told(self, made: Made) -> tuple[bool, bool]:
        """Let the watch see each record that was made; return whether the run stops, and whether it is broken.

        What was made beyond the record at which it does is dropped.
        """
        told, first = jax.device_get((made.recorded, made.carry.diverged))
        for r, done in enumerate(told.step.tolist(), 1):
            is_last = done == made.done
            carry = partial(made.after, r) if made.after else lambda: made.carry
            now = Moment(carry, self.setting.objective.has_state)
            # Params that are no longer finite are seen in the loss of the next iteration, if one was made.
            broken = bool(is_last or first == done) and self._is_broken(made.carry if is_last else now.carry())
            diverged = int(first) if 0 <= first < done else None
            stops = self.watch.stops(told, r - 1, diverged, now, self.several)
            if (stops or broken) and not is_last:
                self.records.pop()
                self._take(Made(done, now.carry(), jax.tree.map(lambda leaf, r=r: leaf[:r], made.recorded), None))
            now.pass_by()
            if stops or broken:
                return stops, broken
        return False, False

    def _save(self) -> None:
        if self.checkpoints is not None and self.plan.records_end(self.done):
            self.checkpoints.save(self.done, self.carry, self.records, self.supply.passed())

    def _is_broken(self, carry: Carry) -> bool:
        """Whether the run has ended in params that are not finite, which are never saved."""
        watched = self.checkpoints is not None or self.watch.on_divergence != "report"
        return watched and not bool(are_finite(carry.params))

    def _mapped(self) -> None:
        if self.checkpoints is not None:
            raise ValueError("checkpoint needs a training of its own: inside jit or vmap nothing can be saved.")
        if self.watch.at_each:
            raise ValueError(
                "on_record, patience and on_divergence need a training of its own: inside jit or vmap the host sees no "
                "record."
            )


def _noted(error: Exception, done: int, checkpoints: Checkpoints | None) -> Exception:
    saved = "nothing was saved, as there is no checkpoint folder" if checkpoints is None else "the run is saved there"
    error.add_note(f"inercia: on_record raised this after iteration {done}; {saved}.")
    return error
