import pytest
import timm
import torch

from rsdl.config.run import RunConfig
from rsdl.core.errors import ConfigError
from rsdl.data.plan import Share
from rsdl.models.probe import find_starved_norm
from rsdl.train.checks import check_norms


@pytest.mark.parametrize("image_size", [32, 64])
def test_the_starved_norm_is_found_exactly_where_pytorch_refuses_to_train(image_size: int):
    model = timm.create_model("resnet18", num_classes=3, in_chans=2)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    name = find_starved_norm(model, in_chans=2, image_size=image_size)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    images = torch.zeros(1, 2, image_size, image_size)
    if image_size == 32:
        assert name == "layer4.0.bn1"
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            model.train()(images)
    else:
        assert name is None
        model.train()(images)


def test_a_batch_of_one_image_is_refused_before_training():
    tree = {"name": "run", "model": {"name": "resnet18"}}
    config = RunConfig.model_validate(
        tree | {"data": {"url": "here", "batch_size": 2, "image_size": 32}}
    )
    model = timm.create_model("resnet18", num_classes=3)
    check_norms(config, model, 3, Share())
    with pytest.raises(ConfigError) as caught:
        check_norms(config, model, 3, Share(0, 2))
    assert str(caught.value).startswith("data.batch_size: 2 gives each device 1 image")
    assert 'data.image_size=32 the batch normalisation "layer4.0.bn1"' in str(caught.value)
    assert "use data.batch_size=4 or more" in str(caught.value)
