"""What several commands ask for: a method, a problem, rows; and the exception of a computation that failed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import arg

from inercia.core import check
from inercia.core.method import Method
from inercia.flows.integration import SOLVERS
from inercia.methods.table import METHODS
from inercia.problems.digits_loss import digits_loss
from inercia.problems.network import ACTIVATIONS
from inercia.problems.prepared import Prepared, prepare
from inercia.problems.toy_losses import PROBLEMS

#: Methods that can be run at their edge: arguments with which they reach it on the digits within a thousand updates.
EDGES: dict[str, dict[str, Any]] = {name: factory.edge for name, factory in METHODS.items() if factory.edge}


def listed(names: Any) -> str:
    """Return "a, b or c"."""
    *first, last = names
    return f"{', '.join(first)} or {last}"


def writable(option: str, file: Path | None) -> None:
    """Raise unless the file can be written, before what takes long is computed; its folder is made."""
    if file is None:
        return
    is_new = not file.exists()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.open("ab").close()
    except OSError as error:
        raise ValueError(f"{option} must name a file that can be written, but {file} cannot: {error}.") from None
    if is_new:
        file.unlink(missing_ok=True)


MethodName = Annotated[str, arg(help=f"{listed(METHODS)}.")]
EdgeMethodName = Annotated[str, arg(help=f"{listed(EDGES)}.")]
ActivationName = Annotated[str, arg(help=f"Of the hidden layers: {listed(ACTIVATIONS)}.")]
ProblemName = Annotated[str, arg(help=f"{listed(PROBLEMS)} (two parameters), or digits (a 64-32-10 network).")]
SolverName = Annotated[str, arg(help=f"Of the differential equation: {listed(SOLVERS)}.")]


class FailedError(Exception):
    """The computation ran and failed; its message is for the reader."""


@dataclass(frozen=True)
class Step:
    """Arguments of the method.

    Args:
        learning_rate: Step size; by default one that suits the problem.
        beta: Decay of momentum's average, 0.9 by default.
        scheme: Momentum's order: semi-implicit (new average) or explicit (the lecture's old one).
    """

    learning_rate: float | None = None
    beta: float | None = None
    scheme: str | None = None

    def method(self, name: str, rate: Any = None, dt: float = 1.0) -> Method:
        """Return the method of that name, by default with the rate that was given, or else the one for training."""
        check.one_of("method", name, METHODS)
        given = {k: v for k, v in (("beta", self.beta), ("scheme", self.scheme)) if v is not None}
        if given and name != "momentum":
            raise ValueError(f"--{next(iter(given))} belongs to the method momentum, but the method is {name}.")
        usual = METHODS[name].training_rate if self.learning_rate is None else self.learning_rate
        return METHODS[name](usual if rate is None else rate, **given, dt=dt)

    def at_the_edge(self, name: str) -> Method:
        """Return the method with arguments at which it reaches its edge on the digits, but for those that are given."""
        arguments = dict(EDGES[check.one_of("method", name, EDGES)])
        if (self.beta is not None and name not in ("momentum", "adam")) or (self.scheme and name != "momentum"):
            raise ValueError(f"--beta belongs to momentum and adam, --scheme to momentum, but the method is {name}.")
        if self.scheme is not None:
            arguments["scheme"] = self.scheme
        if self.scheme == "explicit":
            arguments["learning_rate"] = 0.4
        if self.learning_rate is not None:
            arguments["learning_rate"] = self.learning_rate
        if self.beta is not None:
            arguments["b1" if name == "adam" else "beta"] = self.beta
        return METHODS[name](**arguments)


@dataclass(frozen=True)
class Rows:
    """Where the rows come from.

    Args:
        data: A table (.csv, .tsv, .parquet), .npz (arrays x and y) or IDX file; the bundled digits when left out.
        labels: The IDX file of the labels, when data is IDX.
        target: Column to predict, by name or number; the last by default.
        task: Text and few integers are classes, other numbers a regression, unless said here.
        header: Whether the first line names the columns; judged by the cells by default.
        text: Columns that are text although they look like numbers, such as postcodes.
        drop: Columns to leave out.
        dates: Formats of dates that could be read in two ways, as day=%d/%m/%Y.
        gaps: Missing cells: median (filled, and told by a column), or refuse.
    """

    data: Path | None = None
    labels: Path | None = None
    target: str = "-1"
    task: Literal["auto", "classification", "regression"] = "auto"
    header: bool | None = None
    text: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    dates: tuple[str, ...] = ()
    gaps: Literal["median", "refuse"] = "median"

    def prepare(self, test: float, seed: int) -> Prepared:
        """Return training and test part as the network sees them."""
        wrong = [date for date in self.dates if "=" not in date]
        if wrong:
            raise ValueError(f"--dates must be column=format, such as day=%d/%m/%Y, but it is {wrong[0]!r}.")
        formats = dict(date.rsplit("=", 1) for date in self.dates)
        return prepare(
            self.data, self.labels, target=self.target, task=self.task, gaps=self.gaps, test=test, seed=seed,
            header=self.header, text=self.text, drop=self.drop, formats=formats,
        )  # fmt: skip


def problem(name: str, method: str) -> tuple[Any, Any, float]:
    """Return loss, start and usual learning rate of a problem for `compare` and `order`."""
    check.one_of("problem", name, [*PROBLEMS, "digits"])
    if name == "digits":
        return *digits_loss(), METHODS[check.one_of("method", method, METHODS)].training_rate
    chosen = PROBLEMS[name]
    return chosen.loss, chosen.start, chosen.learning_rate
