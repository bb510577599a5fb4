"""A convolutional network of Flax nnx, with BatchNorm and dropout, trained on Fashion-MNIST by `inercia.train`.

python benchmarks/fashion_cnn.py /usr/share/datasets/fashion-mnist     (of Debian's dataset-fashion-mnist)
"""

import gzip
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from flax import nnx

import inercia as ia


class Cnn(nnx.Module):
    """Two convolutions, each pooled, with BatchNorm, and two dense layers with dropout between."""

    def __init__(self, rngs: nnx.Rngs):
        self.first, self.second = (nnx.Conv(a, b, (3, 3), rngs=rngs) for a, b in ((1, 32), (32, 64)))
        self.norms = nnx.List([nnx.BatchNorm(size, rngs=rngs) for size in (32, 64)])
        self.dense, self.out = nnx.Linear(7 * 7 * 64, 128, rngs=rngs), nnx.Linear(128, 10, rngs=rngs)
        self.dropout = nnx.Dropout(0.4)

    def __call__(self, x, rngs=None):
        """Return the logits."""
        for convolution, norm in zip((self.first, self.second), self.norms, strict=True):
            x = nnx.relu(norm(pooled(convolution(x))))
        return self.out(self.dropout(nnx.relu(self.dense(x.reshape(len(x), -1))), rngs=rngs))


def pooled(x: jax.Array) -> jax.Array:
    """Return the largest of each two by two pixels; on a CPU the gradient of `nnx.max_pool` is slower by far."""
    n, height, width, channels = x.shape
    return x.reshape(n, height // 2, 2, width // 2, 2, channels).max(axis=(2, 4))


def read(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Return images (N, 28, 28, 1) float32 in 0..1, and labels."""
    images, labels = (
        np.frombuffer(gzip.decompress((folder / f"{part}-{name}-ubyte.gz").read_bytes()), np.uint8, offset=offset)
        for name, offset in (("images-idx3", 16), ("labels-idx1", 8))
    )
    return images.reshape(-1, 28, 28, 1).astype(np.float32) / 255, labels.astype(np.int32)


def main(folder: tyro.conf.Positional[Path], epochs: int = 7) -> None:
    """Train on the 60,000 images and test on the 10,000."""
    train, (x, y) = read(folder, "train"), read(folder, "t10k")
    graph, params, statistics = nnx.split(Cnn(nnx.Rngs(0)), nnx.Param, ...)

    def loss(params, statistics, batch, key):
        model = nnx.merge(graph, params, statistics, copy=True)
        logits = model(batch[0], nnx.Rngs(dropout=key))
        value = optax.softmax_cross_entropy_with_integer_labels(logits, batch[1]).mean()
        return value, nnx.state(model, nnx.Not(nnx.Param))

    @jax.jit
    def predict(params, statistics, x):
        model = nnx.merge(graph, params, statistics, copy=True)
        model.eval()
        return model(x).argmax(axis=1)

    steps = epochs * (len(train[0]) // 128)
    method = ia.adam(optax.warmup_cosine_decay_schedule(0.0, 2e-3, steps // 20, steps))
    start, cpu = time.perf_counter(), time.process_time()
    result = ia.train(
        method, loss, params, train, epochs=epochs, batch_size=128, key=0, model_state=statistics,
        on_record=lambda record: print(f"{record.step} iterations, loss {record.loss:.4f}", flush=True),
    )  # fmt: skip
    jax.block_until_ready(result.params)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    found = np.concatenate(
        [predict(result.params, result.model_state, jnp.asarray(x[i : i + 1000])) for i in range(0, len(x), 1000)]
    )
    print(f"test accuracy {np.mean(found == y):.2%} after {seconds:.0f} s ({cpu:.0f} CPU-seconds)")


if __name__ == "__main__":
    tyro.cli(main)
