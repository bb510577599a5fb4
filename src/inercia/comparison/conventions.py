"""One momentum, many spellings: exact conversion between the conventions of papers and frameworks.

    form        update                                   first step     where
    ema         m+ = b m + (1-b) g,   theta -= a m+      a (1-b) g      `momentum`; optax.ema(debias=False)
    sum         v+ = b v + g,         theta -= a v+      a g            `sgd`; optax.sgd and optax.trace; torch SGD
    dampened    v+ = b v + (1-d) g,   theta -= a v+      a g (v_1 = g)  torch SGD with dampening d
    debiased    m+ as ema,  theta -= a m+ / (1-b^(k+1))  a g            optax.ema(debias=True); Adam's numerator
    explicit    theta -= a m (old),   m+ as ema          0              the lecture; `momentum(scheme="explicit")`

`ema`, `sum` and `dampened` make the same iterates from equal memories, with rates as 1 : (1-b) : (1-b)/(1-d); the
memories are v = m / (1-b) and v = m (1-d) / (1-b). torch's dampening leaves the first gradient as it is, so that from a
fresh start its first step is 1/(1-d) times that of the rule. `debiased` and `explicit` differ from `ema` by a transient
and by one step's delay: they are other methods, and no rate makes them equal.

Adam's eps: optax and torch add it outside the root (`eps`); inside (`eps_root`) equals outside only where v = 0, with
eps_root = eps^2. RMSProp: optax adds it inside by default (`eps_in_sqrt=True`), torch outside.

Sources: torch.optim.SGD's and optax's documentation; Sutskever et al. 2013, section 2 and its appendix.
"""

from typing import NamedTuple

from inercia.core import check

FORMS = ("ema", "sum", "dampened")


class Momentum(NamedTuple):
    """Momentum in one of the forms, and what its memory is."""

    learning_rate: float
    beta: float
    dampening: float  # 0 but in the dampened form
    memory: float  # this form's memory over the averaged form's m


def convert(
    learning_rate: float, beta: float, source: str, target: str, *, dampening: float = 0.0, into: float = 0.0
) -> Momentum:
    """Convert a learning rate between the forms of momentum that share their iterates.

    Args:
        learning_rate: a > 0 in the source's form.
        beta: b in [0, 1), the same in all forms.
        source: "ema", "sum" or "dampened".
        target: the same.
        dampening: d in [0, 1) of the source, when it is dampened.
        into: d of the target, when it is dampened.

    Returns:
        Momentum: the target's rate, and its memory in units of m: start both from equal memories, zero for example.

    Raises:
        ValueError: a number outside its range, an unknown form, a dampening for a form that has none.

    Example:
        >>> convert(1.0, 0.75, "ema", "sum")
        Momentum(learning_rate=0.25, beta=0.75, dampening=0.0, memory=4.0)
    """
    check.positive("learning_rate", learning_rate)
    check.in_unit_interval("beta", beta)
    for name, form, d in (("source", source, dampening), ("target", target, into)):
        check.one_of(name, form, FORMS)
        check.in_unit_interval("dampening", d)
        if d and form != "dampened":
            raise ValueError(f"dampening belongs to the dampened form, but {name} is {form!r}.")

    def scale(form: str, d: float) -> float:  # the form's memory over m
        return 1.0 if form == "ema" else (1 - d) / (1 - beta)

    averaged = learning_rate * scale(source, dampening)
    memory = scale(target, into)
    return Momentum(averaged / memory, beta, into, memory)
