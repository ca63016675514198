"""The SimCC networks that differ in more than their width, and ViTPose's other decoder, from random weights to INT8.

ViTPose+ with its expert chosen has ViTPose's graph, which tests/test_families.py takes.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgepose.export.zoo.find import models
from edgepose.export.zoo.model import Model
from tests.test_families import folder, goes_to_int8, has_every_kind_of_layer, smaller_networks  # noqa: F401

GRAPHS = (
    ("rtmpose_t", "halpe26"),
    ("rtmpose_m", "wholebody"),
    ("rtmpose_m", "hand"),
    ("rtmpose_t", "face106"),
    ("rtmw_m", "wholebody"),
    ("simcc_resnet50", "coco"),
    ("vitpose_s_simple", "coco"),
)


def first_of(name: str, dataset: str) -> Model:
    return next(model for model in models() if (model.name, model.dataset) == (name, dataset))


@pytest.mark.parametrize(("name", "dataset"), GRAPHS)
def test_a_smaller_network_has_every_kind_of_layer(name: str, dataset: str) -> None:
    model = first_of(name, dataset)

    has_every_kind_of_layer(model, model.styles[0])


@pytest.mark.skipif(bool(os.environ.get("EDGEPOSE_TEST_ALL")), reason="tests/test_families.py takes every graph")
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("name", "dataset"), GRAPHS)
def test_a_network_goes_from_random_weights_to_int8(name: str, dataset: str, folder: Path) -> None:  # noqa: F811
    model = first_of(name, dataset)

    goes_to_int8((model, model.styles[0]), folder)
