import threading
import time

import pytest

from mshisto_ray.config import InputError
from mshisto_ray.slides import SlideError, in_threads


def test_results_are_in_order_and_errors_are_among_them():
    def work(n):
        if n == 3:
            raise SlideError("NotASlide", "no")
        if n == 5:
            raise FileNotFoundError("gone")
        time.sleep(0.01 if n % 2 else 0)
        return n * n

    found = in_threads(work, list(range(8)), num=3)
    errors = {n: one.name for n, one in enumerate(found) if isinstance(one, SlideError)}
    assert errors == {3: "NotASlide", 5: "Unreachable"}
    assert [one for one in found if isinstance(one, int)] == [0, 1, 4, 16, 36, 49]
    assert in_threads(work, []) == []


def test_one_that_hangs_is_given_up_and_its_place_taken():
    released = threading.Event()

    def work(n):
        if n in (0, 4):
            released.wait(30)
        return n

    found = in_threads(work, list(range(6)), num=3, limit_s=0.1)
    released.set()
    assert [getattr(one, "name", one) for one in found] == ["Hung", 1, 2, 3, "Hung", 5]


def test_a_storage_that_does_not_answer_is_no_failure_of_slides():
    released = threading.Event()
    with pytest.raises(InputError, match="2 slides do not answer"):
        in_threads(lambda n: released.wait(30), list(range(9)), num=2, limit_s=0.1)
    released.set()


def test_a_defect_of_the_code_is_raised():
    with pytest.raises(ZeroDivisionError):
        in_threads(lambda n: 1 // n, [1, 0])
