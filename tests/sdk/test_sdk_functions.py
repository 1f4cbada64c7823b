"""What travels with a function, and when its pickle may be used again."""

import functools
import importlib
import math
import pickle
import subprocess
import sys
import threading
import types

import cloudpickle
import pytest

from meshd_sdk import functions, payloads, pickling
from meshd_sdk.functions import pickle_function


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    """A module of the user's, that no other machine has."""

    def make(source, name="mywork_of_test"):
        (tmp_path / f"{name}.py").write_text(source)
        monkeypatch.syspath_prepend(str(tmp_path))
        importlib.invalidate_caches()
        module = importlib.import_module(name)
        made.append(name)
        return module

    made: list[str] = []
    yield make
    for name in made:
        sys.modules.pop(name, None)


def run_elsewhere(data, *args):
    """Call a pickled function in a process that has neither this test's modules nor its folder."""
    code = "import pickle, sys; f, a = pickle.loads(sys.stdin.buffer.read()); f = pickle.loads(f); print(f(*a))"
    done = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps((data, args)), capture_output=True, check=False, cwd="/"
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()


def make_function(source, **scope):
    """A function as a script defines it: in a `__main__` of its own."""
    scope["__name__"] = "__main__"
    exec(source, scope)
    return scope["f"], scope


def test_function_of_the_users_own_module_runs_where_the_module_does_not_exist(own_module):
    module = own_module(
        "import math\nOFFSET = 40\ndef helper(x):\n    return x + OFFSET\ndef f(x):\n    return helper(x)\n"
    )

    assert run_elsewhere(pickle_function(module.f).data, 2) == "42"


def test_users_module_that_is_imported_by_another_of_theirs_travels_too(own_module):
    own_module("FACTOR = 6\ndef times(x):\n    return x * FACTOR\n", "mywork_inner")
    outer = own_module("import mywork_inner\ndef f(x):\n    return mywork_inner.times(x)\n", "mywork_outer")

    assert run_elsewhere(pickle_function(outer.f).data, 7) == "42"


def test_instance_of_a_users_class_travels_with_its_class(own_module):
    module = own_module("class Point:\n    def __init__(self, x):\n        self.x = x\n")
    payload = payloads.call_payload((module.Point(42),), {})
    del sys.modules[module.__name__]

    (point,), _ = pickle.loads(payload[1:])
    assert point.x == 42


def test_what_the_user_registered_with_cloudpickle_stays_registered(own_module):
    module = own_module("def f():\n    return 1\n")
    before = set(cloudpickle.list_registry_pickle_by_value())
    cloudpickle.register_pickle_by_value(module)
    try:
        pickle_function(module.f)
        assert set(cloudpickle.list_registry_pickle_by_value()) == before | {module.__name__}
    finally:
        cloudpickle.unregister_pickle_by_value(module)


@pytest.mark.parametrize("function", [pow, len, math.sqrt, int, functools.reduce, str.upper, importlib.import_module])
def test_function_that_every_node_has_travels_by_name(function):
    data = pickle_function(function).data

    assert len(data) < 100
    assert pickle.loads(data) is function or pickle.loads(data) == function


def test_pickle_of_a_function_is_made_once():
    function, _ = make_function("def f(x):\n    return math.sqrt(x) + LIMIT\n", math=math, LIMIT=3)

    assert pickle_function(function) is pickle_function(function)


@pytest.mark.parametrize(
    "change",
    [
        lambda f, scope: scope.update(LIMIT=4),
        lambda f, scope: scope.update(helper=lambda: 9),
        lambda f, scope: setattr(f, "__defaults__", (5,)),
        lambda f, scope: setattr(f, "__kwdefaults__", {"y": 5}),
        lambda f, scope: setattr(f, "__code__", (lambda x=1, *, y=2: 7).__code__),
        lambda f, scope: setattr(scope["helper"], "__code__", (lambda: 8).__code__),
        lambda f, scope: setattr(f, "attribute", 1),
        lambda f, scope: scope.pop("LIMIT"),
    ],
)
def test_pickle_of_a_function_that_changed_is_made_anew(change):
    function, scope = make_function(
        "LIMIT = 3\ndef helper():\n    return LIMIT\ndef f(x=1, *, y=2):\n    return [helper() for _ in range(LIMIT)]\n"
        "f.__kwdefaults__ = None"
    )
    first = pickle_function(function)
    assert pickle_function(function) is first
    change(function, scope)

    assert pickle_function(function) is not first


def test_function_over_a_list_sends_the_list_as_it_is_at_each_submit():
    """The list is the same object before and after: only its pickle tells."""
    function, scope = make_function("def f():\n    return sum(NUMBERS)\n", NUMBERS=[1])
    first = pickle_function(function)
    scope["NUMBERS"].append(41)

    assert pickle.loads(first.data)() == 1
    assert pickle.loads(pickle_function(function).data)() == 42


def test_closure_sends_its_variables_as_they_are_at_each_submit():
    counter = 0

    def count():
        return counter

    assert pickle_function(count) is pickle_function(count)
    for counter in (1, 2):
        assert pickle.loads(pickle_function(count).data)() == counter


def test_closure_over_something_that_can_change_is_pickled_each_time():
    box = [1]
    function = lambda: box[0]  # noqa: E731
    pickle_function(function)
    box[0] = 2

    assert pickle.loads(pickle_function(function).data)() == 2


def test_functions_that_call_each_other_are_watched_without_end():
    function, scope = make_function(
        "def f(n):\n    return n if n == 0 else g(n - 1)\ndef g(n):\n    return f(n)\n"
    )  # fmt: skip
    first = pickle_function(function)

    assert pickle_function(function) is first
    assert pickle.loads(first.data)(5) == 0
    scope["g"].__defaults__ = (1,)
    assert pickle_function(function) is not first


def test_new_function_at_the_address_of_an_old_one_is_not_taken_for_it():
    for number in range(2_000):
        assert pickle.loads(pickle_function(lambda number=number: number).data)() == number


def test_pickles_that_are_kept_have_a_bound():
    for _ in range(2 * functions._KEPT_MAX):
        pickle_function(lambda: 1)

    assert len(functions._kept) <= functions._KEPT_MAX


def test_modules_of_this_project_and_of_python_are_not_carried_along(own_module):
    module = own_module("x = 1\n")

    assert pickling.is_users_own(module)
    for other in (pickling, math, importlib, pytest, cloudpickle, types, sys.modules["__main__"]):
        assert not pickling.is_users_own(other)


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((), {}),
        ((1, 2.5, "three", b"four", None, True), {}),
        (([1, 2], (3,), {"four": 5}), {"six": 7}),
        ((list(range(1_000)),), {}),
        (([[1], [2]],), {"nested": {"deep": {"er": 1}}}),
        ((len, int), {}),
    ],
)
def test_arguments_arrive_as_they_were(args, kwargs):
    payload = payloads.call_payload(args, kwargs)

    assert payload[0] == 1
    assert pickle.loads(payload[1:]) == (args, kwargs)


def test_lambda_among_the_arguments_travels():
    (function,), _ = pickle.loads(payloads.call_payload((lambda: 42,), {})[1:])

    assert function() == 42


def test_subclass_of_a_plain_type_travels_with_its_class():
    class Number(int):
        def double(self):
            return Number(self * 2)

    payload = payloads.map_payload([(Number(21),)])

    assert pickle.loads(payload[1:])[0][0].double() == 42
    assert payload[0] == 2


def test_object_that_submits_while_it_is_pickled_blocks_nobody():
    class Submits:
        def __reduce__(self):
            return int, (len(payloads.call_payload((threading.Event,), {})),)

    assert payloads.call_payload((Submits(),), {})
