"""Networks that come with sparsim: two small trained ones with measured accuracies, and published ones by their shapes.

====================  ==========================================================================================
``lenet300_100``      trained on MNIST: 266,200 weights in three linear layers
``lenet5``            trained on MNIST: 430,500 weights in two convolutions and two linear layers
``alexnet``           61 M weights, ImageNet; pruned by Han et al. 2015 and with Distiller
``bert_base``         the encoder's 85 M weights, 128 tokens
``googlenet``         7 M weights in inception modules, ImageNet
``llama_7b_block``    202 M weights: one of 32 blocks, 128 tokens
``mobilenet_v1``      4.2 M weights, half of the layers depthwise, ImageNet
``resnet50``          25.5 M weights in bottleneck blocks, ImageNet; pruned with Distiller
``resnet50_block``    one block of its stage conv4_x
``squeezenet``        1.2 M weights in fire modules, ImageNet; pruned by its authors
``vgg16``             138 M weights, ImageNet; pruned by Han et al. 2015
====================  ==========================================================================================

The trained ones are stored dense, in int8 with one scale a layer, by ``benchmarks/networks/train_lenet.py``; their
metadata says how they were trained, and what accuracy was measured for each pruned variant after fine-tuning. The
output layer was left whole, for ``in_channel`` the input layer too; :func:`pruned` makes the very mask a measured
accuracy belongs to (equal magnitudes, common among 127, are decided by position: the lower index stays). The values
after fine-tuning are not stored: a cost depends on positions only.

Of the others only shapes, and of some the densities of the pruned layers, are published. :func:`load` draws their
weights or masks at random, and says so in the notes of the network, which reach every report.
"""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import as_file, files

from sparsim import io
from sparsim.errors import ConfigError, nearest
from sparsim.network import Network
from sparsim.zoo.shape import read_shape, shape_names
from sparsim.zoo.synthetic import synthetic, valued
from sparsim.zoo.trained import accuracy, left_whole, measured_accuracy, pruned

__all__ = ["accuracy", "left_whole", "load", "measured_accuracy", "names", "pruned", "valued"]

TRAINED = ("lenet300_100", "lenet5")


def names() -> list[str]:
    """Return what :func:`load` takes."""
    return [*TRAINED, *(name for name in shape_names() if name not in TRAINED)]


def load(name: str, weights: str | None = None, *, seed: int = 0, tokens: int | None = None) -> Network:
    """Return the network called ``name``.

    Parameters
    ----------
    weights : None takes a trained network's own weights, and ``random`` for the others:

        ======================  ====================================================================================
        ``random``              dense values that were never trained (:func:`~sparsim.zoo.draw.draw_weight`), 4 bytes
                                a weight; the one to prune
        ``shape``               dense, without values and without memory
        ``published``           a mask of the published densities: exactly round(size x density) non-zeros in each
                                layer, at independent random positions, and the published densities of the activations
                                entering the layers. ``published:NAME`` takes another than the first of the schedules
                                in the network's file. Where only a total is published, all layers get its density
        ``published-skewed``    as many non-zeros, spread over rows and columns as unevenly as in real masks
        ``uniform:D``           a mask of density D in every layer, at independent random positions
        ======================  ====================================================================================

        Masks hold positions without values: bool arrays in convolutions, patterns in linear layers.
    seed : of everything drawn.
    tokens : positions of each linear layer, of networks that run token by token.

    Raises
    ------
    ConfigError
        If there is no network of that name, or it has no such weights.
    """
    if name not in names():
        raise ConfigError(f"no bundled network '{name}'{nearest(name, names())}", key="zoo", allowed=", ".join(names()))
    if weights is not None or tokens is not None or name not in TRAINED:
        return synthetic(name, weights or "random", seed, tokens)
    with as_file(files("sparsim.zoo") / f"{name}.safetensors") as path:
        network = io.load(path)
    assert isinstance(network, Network)
    return replace(network, graph=read_shape(name).network.graph)
