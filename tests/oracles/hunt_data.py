"""Cases of `read`, `split`, `standardise` and `sampler`, beside pandas and scikit-learn."""

import tempfile
from pathlib import Path

import jax
import numpy as np
import pandas as pd
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import inercia as ia
from oracles.hunt_dynamics import agree

#: Samplers that are drawn from: name, rows, batch size.
SAMPLERS = [("shuffle", 12, 5), ("shuffle", 12, 4), ("shuffle", 7, 7), ("partition", 12, 5), ("partition", 9, 3)]


def column(rng: np.random.Generator, rows: int) -> np.ndarray:
    """Draw numbers of some kind, many of them hard to scale."""
    match rng.integers(6):
        case 0:
            return np.full(rows, rng.normal() * 10.0 ** rng.integers(-3, 6))
        case 1:
            return rng.integers(0, 5, rows).astype(float)
        case 2:
            return 10.0 ** rng.integers(2, 7) + rng.normal(size=rows)
        case 3:
            return 10.0 ** rng.integers(-20, 20) * rng.normal(size=rows)
        case 4:
            return np.where(rng.random(rows) < 0.9, 0.0, rng.normal(size=rows))
        case _:
            return rng.normal(size=rows)


def standardise(rng: np.random.Generator) -> str:
    """Scaling by the training rows, beside scikit-learn's."""
    rows, more = int(rng.integers(2, 80)), int(rng.integers(1, 20))
    columns = [column(rng, rows + more) for _ in range(rng.integers(1, 6))]
    x = np.stack(columns, axis=1)
    x = x.astype(rng.choice([np.float64, np.float32]))
    parts = ia.Split(ia.Dataset(x[:rows], None), ia.Dataset(x[rows:], None))
    found = ia.standardise(parts)
    scaler = StandardScaler().fit(x[:rows].astype(np.float64))
    told = f"{rows} rows, {x.shape[1]} columns, {x.dtype}"
    for ours, theirs in zip(found, parts, strict=True):
        good = scaler.transform(theirs.x.astype(np.float64))
        assert ours.x.dtype == np.float32
        for one, other in zip(ours.x.T, good.T, strict=True):
            agree(one, other, 0, 3e-7, f"standardise, {told}")
    return told


def split(rng: np.random.Generator) -> str:
    """The parts of a split: disjoint, complete, of the right sizes, the same for the same seed."""
    rows, seed, test = int(rng.integers(4, 300)), int(rng.integers(1000)), float(rng.uniform(0.2, 0.8))
    x = np.arange(rows)[:, None]
    found, again = (ia.split((x, 2 * x[:, 0]), test, seed) for _ in range(2))
    told = f"{rows} rows, {test}, seed {seed}"
    together = np.concatenate([found.train.x, found.test.x])[:, 0]
    assert sorted(together.tolist()) == list(range(rows)), told
    assert len(found.test.x) == round(test * rows), told
    for part, same in zip(found, again, strict=True):
        assert np.array_equal(part.y, 2 * part.x[:, 0]), told
        assert np.array_equal(part.x, same.x), told
    assert rows < 20 or not np.array_equal(together, np.arange(rows)), f"{told}: not shuffled"
    return told


def sampler(rng: np.random.Generator) -> str:
    """What each sampler promises of its rows, and that any stretch of a run is a part of the whole."""
    name, rows, batch = SAMPLERS[rng.integers(len(SAMPLERS))]
    epochs, key, found = 3, jax.random.key(int(rng.integers(1000))), ia.sampler(name, rows, batch)
    draw = jax.jit(found.rows, static_argnums=2)
    told = f"{name} {rows} rows, batches of {batch}"
    assert found.epoch == (rows // batch if name == "shuffle" else -(-rows // batch)), told
    steps = epochs * found.epoch
    drawn = np.asarray(draw(key, 0, steps))
    assert drawn.shape == (steps, batch), told
    assert 0 <= drawn.min() <= drawn.max() < rows, f"{told}: rows out of range"
    start = int(rng.integers(steps))
    assert np.array_equal(draw(key, start, 2)[: steps - start], drawn[start : start + 2]), f"{told} from {start}"
    if name == "shuffle":
        for epoch in np.split(drawn, epochs):
            assert len(set(epoch.ravel().tolist())) == epoch.size, f"{told}: a row twice in an epoch"
    else:
        many = np.asarray(draw(key, 0, 12 * found.epoch + 30))
        assert len({tuple(part) for part in many.tolist()}) <= found.epoch, f"{told}: batches that are not fixed"
    return told


def read(rng: np.random.Generator) -> str:
    """A table written by pandas, read as pandas reads it and encoded as scikit-learn does."""
    rows, separator = int(rng.integers(12, 40)), str(rng.choice([",", ";", "\t", "|"]))
    towns = np.array(["Rome", "Málaga", "a b", "x"], object)
    frame = pd.DataFrame({
        "a": rng.normal(size=rows) * 10.0 ** rng.integers(-8, 9),
        "n": rng.integers(-5, 1000, rows),
        "town": towns[rng.integers(0, len(towns), rows)],
        "day": pd.Timestamp("2020-01-31") + pd.to_timedelta(rng.integers(0, 900, rows), "D"),
        "gaps": np.where(rng.random(rows) < 0.3, np.nan, rng.normal(size=rows)),
        "y": rng.normal(size=rows),
    })  # fmt: skip
    frame.loc[0, "gaps"] = np.nan
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "t.csv"
        if rng.integers(4) == 0:
            file = file.with_suffix(".parquet")
            import duckdb

            duckdb.from_df(frame).write_parquet(str(file))
            theirs = frame
        else:
            decimal = "," if separator == ";" else "."
            frame.to_csv(file, sep=separator, index=False, decimal=decimal)
            theirs = pd.read_csv(file, sep=separator, decimal=decimal, parse_dates=["day"])
        table, data = ia.read_table(file), ia.read(file, target="y", task="regression")
    told = f"{rows} rows {file.suffix} {separator!r}"
    days = (theirs["day"] - pd.Timestamp("1970-01-01")).dt.days.to_numpy()
    for name in ("a", "n", "gaps", "y"):
        np.testing.assert_allclose(table.columns[name], theirs[name].to_numpy(float), rtol=1e-15, err_msg=told)
    assert table.columns["town"].tolist() == theirs["town"].tolist(), told
    assert table.columns["day"].tolist() == days.tolist(), told
    parts = [
        theirs[["a", "n"]].to_numpy(float),
        OneHotEncoder(sparse_output=False).fit_transform(theirs[["town"]]),
        days[:, None],
        SimpleImputer(strategy="median", add_indicator=True).fit_transform(theirs[["gaps"]]),
    ]
    np.testing.assert_allclose(data.x, np.concatenate(parts, axis=1), rtol=1e-15, err_msg=told)
    np.testing.assert_allclose(data.y[:, 0], theirs["y"], rtol=1e-15, err_msg=told)
    return told
