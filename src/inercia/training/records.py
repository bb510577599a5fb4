"""What the host does at each record: it tells a callback, and decides whether the run stops there.

on_record          is called with the record; where it returns True the run stops
patience           records without a smaller validation metric after which the run stops; the best params are kept
on_divergence      "report": the run goes on to its end; "stop": it ends at the record; "raise": so too, with an error
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from inercia.core import check
from inercia.training import hosts
from inercia.training.programs import Carry, History

POLICIES = ("report", "stop", "raise")


@dataclass(frozen=True)
class Record:
    """One record, on the host.

    Attributes:
        step: iterations done.
        loss: mean loss of the batches since the record before.
        evaluate: what `evaluate` gave, NumPy arrays; None without it.
        aux: mean of the loss's aux since the record before; None without it.
        validation: the validation metric; None without it.
        diverged: first iteration whose loss was not finite; None if none.
        params: the params now, a copy made when they are asked for during the call; it may be kept. Who asks is told
            each record by itself from then on: of epochs of 3 ms it costs a third.
        model_state: likewise; None without it.
    """

    step: int
    loss: float
    evaluate: Any
    aux: Any
    validation: float | None
    diverged: int | None
    _moment: "Moment" = field(repr=False)

    @property
    def params(self) -> Any:
        """Return a copy of the params; the training itself goes on in their buffers."""
        return jax.tree.map(jnp.copy, self._moment.carry().params)

    @property
    def model_state(self) -> Any:
        """Return a copy of the model's state."""
        return jax.tree.map(jnp.copy, self._moment.carry().model_state) if self._moment.has_model_state else None


class Moment:
    """What a training carries at a record, for as long as the callback runs: a record that is kept holds no buffers."""

    def __init__(self, carry: Callable[[], Carry], has_model_state: bool) -> None:
        self.has_model_state = has_model_state
        self._ask: Callable[[], Carry] | None = carry
        self._found: Carry | None = None

    def carry(self) -> Carry:
        """Return it, or raise where the call is over."""
        if self._ask is None:
            raise RuntimeError("a record has its params during the call of on_record alone: copy them there.")
        self._found = self._found or self._ask()
        return self._found

    def pass_by(self) -> None:
        """End it."""
        self._ask = self._found = None


class Watch:
    """The host's part at each record.

    Attributes:
        at_each: whether it must see every record, so that a call ends with each.
        error: what the callback raised.
    """

    def __init__(self, on_record: Any, patience: int | None, on_divergence: str, validated: bool) -> None:
        if on_record is not None and not callable(on_record):
            raise TypeError(f"on_record must be a function of a record, but it is {type(on_record).__name__}.")
        if patience is not None and not validated:
            raise ValueError("patience counts records without a smaller validation metric: pass validation too.")
        self.on_record, self.patience = on_record, None if patience is None else check.integer("patience", patience)
        self.on_divergence = check.one_of("on_divergence", on_divergence, POLICIES)
        self.at_each = on_record is not None or patience is not None or on_divergence != "report"
        self.error: Exception | None = None
        self._metrics: list[float] = []
        self._steps: list[int] = []

    def note(self, recorded: History) -> None:
        """Take the metrics of records into account, without a callback."""
        if self.patience is not None:
            self._metrics += np.asarray(recorded.validation, np.float64).tolist()
            self._steps += np.asarray(recorded.step).tolist()

    @property
    def best(self) -> int | None:
        """The iterations after which the metric was least; None where it is not watched."""
        return self._steps[self._least()] if self._steps else None

    @property
    def is_blind(self) -> bool:
        """Whether none of the metrics was a number."""
        return bool(self._metrics) and bool(np.isnan(self._metrics).all())

    def is_over(self) -> bool:
        """Whether patience has run out."""
        return self.patience is not None and bool(self._steps) and len(self._steps) - 1 - self._least() >= self.patience

    def stops(self, told: History, r: int, diverged: int | None, now: Moment, several: bool) -> bool:
        """Tell the callback of record r of those in NumPy arrays; return whether the run stops there."""
        if self.patience is not None:
            self.note(jax.tree.map(lambda leaf: leaf[r : r + 1], told))
        asked = 0
        if self.on_record is not None and hosts.is_main_process():
            seen, aux = jax.tree.map(lambda leaf: leaf[r], (told.evaluate, told.aux))
            metric = None if told.validation is None else float(told.validation[r])
            record = Record(int(told.step[r]), float(told.loss[r]), seen, aux, metric, diverged, now)
            try:
                answer = self.on_record(record)
                asked = int(isinstance(answer, bool | np.bool_) and bool(answer))
            except Exception as error:
                self.error, asked = error, 2
        asked = hosts.largest(asked) if several else asked
        if asked == 2 and self.error is None:
            self.error = RuntimeError("on_record raised on the main process.")
        return bool(asked) or self.is_over() or (self.on_divergence != "report" and diverged is not None)

    def _least(self) -> int:
        return int(np.argmin(np.nan_to_num(self._metrics, nan=np.inf)))
