"""What a prediction reports of labels."""

from types import SimpleNamespace

from mshisto_ray.prediction.labels import unknown_labels


def test_labels_that_are_no_class_of_the_head_are_reported():
    head = SimpleNamespace(
        classes=("even", "odd"), about={"target": {"column": "label"}}
    )
    labels = {"a": "odd", "b": "neither", "c": None, "d": "neither"}
    cohort = SimpleNamespace(find=lambda name: name, column=lambda name: labels)
    bags = [SimpleNamespace(slide_ids=("a", "b")), SimpleNamespace(slide_ids=("c",))]
    (line,) = unknown_labels(head, cohort, bags)
    assert line.startswith("1 slides have a label that is not") and line.endswith(": b")
    assert unknown_labels(head, cohort, bags[1:]) == []
