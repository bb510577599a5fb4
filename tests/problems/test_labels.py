"""A label is checked once, by the same rule, whichever way it comes in: -1 is never the last class."""

import numpy as np
import pytest

import inercia as ia
from inercia.problems.digits_loss import edge_loss
from inercia.problems.labels import one_hot

X, Y = np.eye(4, 3, dtype=np.float32), np.array([-1, 1, 1, -1])
NETWORK = ia.mlp([3, 2])
RISK = ia.risk(NETWORK, "cross-entropy")


def in_train():
    ia.train(
        ia.sgd(0.1),
        RISK,
        [ia.Layer(np.zeros((3, 2), np.float32), np.zeros(2, np.float32))],
        (X, Y),
        epochs=1,
        sampler="full",
        key=0,
    )


@pytest.mark.parametrize(
    "door",
    [
        lambda: RISK([ia.Layer(np.zeros((3, 2)), np.zeros(2))], (X, Y)),
        lambda: edge_loss(X, Y),
        lambda: one_hot(Y, 2),
        in_train,
    ],
    ids=["risk", "edge_loss", "one_hot", "train"],
)
def test_a_negative_label_is_refused(door):
    with pytest.raises(ValueError, match=r"labels must .*, but y\[0\] is -1"):
        door()


def test_one_hot():
    np.testing.assert_array_equal(one_hot(np.array([2, 0], np.uint8)), [[0, 0, 1], [1, 0, 0]])
    with pytest.raises(TypeError, match="must be integers"):
        one_hot(np.array([0.0, 1.0]))
