import numpy as np

from mshisto_ray.training.held_out import HeldOutConfig
from mshisto_ray.training.summary import summarise


def test_slides_patients_classes_and_who_is_held_out(make_index):
    index = make_index(num_slides=10)
    line = summarise(index, ["neg", "pos"], HeldOutConfig(share=0.4), 3)
    assert line == (
        "10 slides, 5 patients; 'neg' 5, 'pos' 5; 2 patients held out "
        "(validation.share=0.4, seed=3)"
    )
    index = make_index(num_slides=10, labels=[-1] * 10)
    line = summarise(index, [], HeldOutConfig(share=0), 3)
    assert "; no classes; 0 patients held out (validation.share=0, " in line


def test_slides_without_tiles_do_not_count(make_index):
    index = make_index(num_slides=10, labels=[0, 1, 0, 1, -1] * 2)
    of_six = index.subset(np.flatnonzero(index.slide(np.arange(len(index))) < 6))
    line = summarise(of_six, ["neg", "pos"], HeldOutConfig(share=0), 0)
    assert line.startswith("6 slides, 3 patients; 'neg' 3, 'pos' 2;")
