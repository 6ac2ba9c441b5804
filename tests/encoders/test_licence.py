from mshisto_ray.encoders import licence_of


def test_licences_of_recipes_and_networks():
    assert licence_of({"name": "uni", "weights": "x"}).endswith(", gated")
    assert licence_of({"name": "resnet50_imagenet"})
    random = {"name": "timm", "model": "resnet18", "weights": "random"}
    assert licence_of(random) == "no weights"
    known = {"name": "timm", "model": "resnet18", "weights": "pretrained"}
    assert licence_of(known) == "apache-2.0"
    assert licence_of({"name": "checkpoint", "path": "x"}) == ""
