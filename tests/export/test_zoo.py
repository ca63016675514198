import json

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from edgepose.export.zoo.bottom_up import bottom_up_models
from edgepose.export.zoo.find import find_model, models
from edgepose.export.zoo.model import WEIGHTS, ChoiceError, Model
from edgepose.export.zoo.space import space_models
from tests.export.test_simple_baseline import run_on_meta

FAMILIES = ("hrnet_w32", "hrnet_w48", "cpm", "hourglass52", "stacked_hourglass_1", "stacked_hourglass_2")


def entries(name: str) -> list[Model]:
    return [model for model in models() if model.name == name]


@pytest.mark.parametrize("name", [*FAMILIES, "stacked_hourglass_8"])
def test_the_zoo_tells_the_size_and_cost_of_each_network(name):
    built = {}
    for model in entries(name):
        key = (model.spec.num_maps, model.spec.image.size_hw)
        if key not in built:
            with torch.device("meta"):
                network = model.build(model.styles[0])
            built[key] = (*run_on_meta(network, model.spec.image.size_hw), sum(p.numel() for p in network.parameters()))
        heatmaps, flops, params = built[key]

        assert heatmaps.shape == (1, model.spec.num_maps, *model.spec.heatmaps.size_hw)
        assert model.gflops == pytest.approx(flops / 1e9, abs=0.0051)
        assert model.params == params


@pytest.mark.parametrize(
    "model",
    [model for model in models() if model.name.startswith(("vitpose", "rtm", "simcc_resnet"))],
    ids=lambda m: f"{m.name} {m.dataset}",
)
def test_the_zoo_tells_the_size_and_cost_of_networks_with_matrix_products(model):
    with torch.device("meta"):
        network = model.build(model.styles[0]).eval()
        with FlopCounterMode(display=False) as counter:
            outputs = network(torch.empty(1, 3, *model.spec.image.size_hw))

    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    assert [tuple(output.shape[1:]) for output in outputs] == list(model.spec.outputs.values())
    assert model.gflops == pytest.approx(counter.get_total_flops() / 1e9, abs=0.0051)
    assert model.params == sum(parameter.numel() for parameter in network.parameters())


def test_every_published_file_is_named_with_the_start_of_its_hash():
    published = [model.published for model in models() if model.published]

    assert len({file.sha256_prefix for file in published}) == len(published)
    for file in published:
        assert len(file.sha256_prefix) == 8
        assert int(file.sha256_prefix, 16) >= 0
        assert f"-{file.sha256_prefix}_" in file.url


@pytest.mark.parametrize("model", [model for model in models() if model.embedded], ids=lambda model: model.name)
def test_embedded_weights_are_read_as_they_were_trained(model):
    trained = json.loads((WEIGHTS / f"{model.name}.json").read_text(encoding="utf-8"))

    data = model.spec.to_json()
    spec = {**data["head"], "input_hw": data["input"]["size_hw"], "heatmap_hw": data["head"]["size_hw"]}

    for key in {"decoder", "blur_kernel", "refine", "input_hw", "heatmap_hw"} & trained.keys():
        assert spec[key] == trained[key], key


def test_udp_entries_align_as_udp_and_do_not_shift_the_mirrored_map():
    for model in models():
        udp = model.spec.decoder in ("udp", "udp-combined")

        assert (model.spec.crop.alignment == "udp") == udp
        assert not (udp and model.spec.heatmaps.flip_shift)


@pytest.mark.parametrize("decoder", ["dark", "udp-v0", "argmax"])
def test_a_network_without_heat_maps_takes_no_decoder(decoder):
    with pytest.raises(ChoiceError, match=r"rtmpose_t coco 256x192 gives no heat maps .* leave the decoder out"):
        find_model("rtmpose_t", decoder=decoder)


def test_every_published_file_has_a_licence():
    rows = [*models(), *bottom_up_models(), *space_models()]

    without = {row.name for row in rows if row.licence == "-"}

    assert without == {"hrnet_w32", "hrnet_w48", "simplebaseline_resnet18", "simplebaseline_resnet34"} | {
        "simplebaseline_keras"
    }
    assert all(row.licence != "-" for row in models() if row.published or row.by_hand or row.embedded)
    assert {row.name: row.licence for row in space_models()}["videopose3d_27_causal"] == "CC-BY-NC-4.0"
