"""The code version of a stage: which edits change it, and that nothing else does."""

import functools
import importlib
import linecache
import os
import shutil
import sys
import zipfile
from pathlib import Path

import pytest

from pipeline_assets.policy.code_versions import code_version_of
from pipeline_assets_tests.policy.project import Project

STAGE = "\n\ndef stage():\n    return 1\n"

IMPORTS = {
    "module": ("import helper_of_test", "helper_of_test.py"),
    "name": ("from helper_of_test import value", "helper_of_test.py"),
    "everything": ("from helper_of_test import *", "helper_of_test.py"),
    "submodule": ("from pkg_of_test import helper", "pkg_of_test/helper.py"),
    "package": ("from pkg_of_test import value", "pkg_of_test/__init__.py"),
    "package above": ("from pkg_of_test.helper import value", "pkg_of_test/__init__.py"),
    "dotted": ("import pkg_of_test.deep.helper", "pkg_of_test/deep/helper.py"),
    "dotted, middle": ("import pkg_of_test.deep.helper", "pkg_of_test/deep/__init__.py"),
    "dotted, as": ("import pkg_of_test.deep.helper as h", "pkg_of_test/deep/helper.py"),
    "in a function": ("def late():\n    import helper_of_test", "helper_of_test.py"),
    "under a condition": ("import os\nif os.sep == '?':\n    import helper_of_test", "helper_of_test.py"),
    "tried": ("try:\n    import no_such_module\nexcept ImportError:\n    import helper_of_test", "helper_of_test.py"),
    "by name": ("import importlib\nh = importlib.import_module('pkg_of_test.helper')", "pkg_of_test/helper.py"),
}

RELATIVE = {
    "sibling": ("from . import helper", "pkg_of_test/helper.py"),
    "name of a sibling": ("from .helper import value", "pkg_of_test/helper.py"),
    "submodule of a sibling": ("from .deep import helper", "pkg_of_test/deep/helper.py"),
    "by name": ("import importlib\nh = importlib.import_module('.helper', __package__)", "pkg_of_test/helper.py"),
    "its own package": ("", "pkg_of_test/__init__.py"),
}


def helpers(project: Project) -> None:
    for file in ("helper_of_test", "pkg_of_test/__init__", "pkg_of_test/helper", "pkg_of_test/deep/__init__"):
        project.write(f"{file}.py", "value = 1\n")
    project.write("pkg_of_test/deep/helper.py", "value = 1\n")


@pytest.mark.parametrize("form", IMPORTS)
def test_an_edit_to_an_imported_module_is_seen(project: Project, form: str) -> None:
    line, file = IMPORTS[form]
    helpers(project)
    project.write("stage_of_test.py", line + STAGE)
    before = project.version()
    project.write(file, "value = 2\n")
    assert project.version() != before


@pytest.mark.parametrize("form", RELATIVE)
def test_an_edit_to_a_relatively_imported_module_is_seen(project: Project, form: str) -> None:
    line, file = RELATIVE[form]
    helpers(project)
    project.write("pkg_of_test/stage.py", line + STAGE)
    before = project.version("pkg_of_test.stage")
    project.write(file, "value = 2\n")
    assert project.version("pkg_of_test.stage") != before


def test_more_dots_than_packages_are_no_error(project: Project) -> None:
    project.write("stage_of_test.py", "def late():\n    from ... import nothing" + STAGE)
    assert project.version() == project.version()


def test_an_edit_to_the_stage_itself_is_seen(project: Project) -> None:
    project.write("stage_of_test.py", STAGE)
    before = project.version()
    project.write("stage_of_test.py", STAGE.replace("1", "2"))
    assert project.version() != before


def test_an_edit_is_seen_through_other_modules_that_import_each_other(project: Project) -> None:
    project.write("stage_of_test.py", "import first_of_test" + STAGE)
    project.write("first_of_test.py", "import second_of_test\n")
    project.write("second_of_test.py", "import first_of_test, stage_of_test\nimport third_of_test\n")
    project.write("third_of_test.py", "value = 1\n")
    before = project.version()
    project.write("third_of_test.py", "value = 2\n")
    assert project.version() != before


def test_an_edit_elsewhere_changes_nothing(project: Project) -> None:
    helpers(project)
    project.write("stage_of_test.py", "import pkg_of_test.helper" + STAGE)
    before = project.version()
    project.write("helper_of_test.py", "value = 2\n")
    project.write("pkg_of_test/deep/helper.py", "value = 2\n")
    assert project.version() == before


def test_a_package_on_the_way_does_not_bring_what_it_gathers(project: Project) -> None:
    project.write("pkg_of_test/__init__.py", "from pkg_of_test import other\n")
    project.write("pkg_of_test/other.py", "value = 1\n")
    project.write("pkg_of_test/helper.py", "value = 1\n")
    project.write("stage_of_test.py", "from pkg_of_test.helper import value" + STAGE)
    before = project.version()
    project.write("pkg_of_test/other.py", "value = 2\n")
    assert project.version() == before


def test_a_package_that_can_be_used_brings_what_it_gathers(project: Project) -> None:
    project.write("pkg_of_test/__init__.py", "from pkg_of_test import other\n")
    project.write("pkg_of_test/other.py", "value = 1\n")
    project.write("pkg_of_test/helper.py", "value = 1\n")
    project.write("stage_of_test.py", "import pkg_of_test.helper\nX = pkg_of_test.other.value" + STAGE)
    before = project.version()
    project.write("pkg_of_test/other.py", "value = 2\n")
    assert project.version() != before


def test_comments_layout_and_docstrings_change_nothing(project: Project) -> None:
    project.write("stage_of_test.py", "X = [1, 2]\n\n\ndef stage(a: int = 1):\n    return 'x', 1000\n")
    before = project.version()
    project.write(
        "stage_of_test.py",
        '"""A module."""\nX = [  # two\n    1,\n    2,\n]\n"""Two."""\n'
        'def stage( a: int=1 ):\n  """A stage."""\n  return ("x", 1_000)\n',
    )
    assert project.version() == before


@pytest.mark.parametrize("edited", ["X = 1.0", "X = True", "X = '1'", "Y = 1", "X = -1", "X = [1]", "'doc'\nX = 1\nX"])
def test_what_python_makes_of_it_changes_it(project: Project, edited: str) -> None:
    project.write("stage_of_test.py", "X = 1" + STAGE)
    before = project.version()
    project.write("stage_of_test.py", edited + STAGE)
    assert project.version() != before


def test_a_line_that_moves_to_another_branch_is_an_edit(project: Project) -> None:
    project.write("stage_of_test.py", "X = []\nif X:\n    X.sort()\nelse:\n    X.clear()" + STAGE)
    before = project.version()
    project.write("stage_of_test.py", "X = []\nif X:\n    X.sort()\n    X.clear()" + STAGE)
    assert project.version() != before


def test_two_modules_that_swap_their_text_are_an_edit(project: Project) -> None:
    project.write("stage_of_test.py", "import one_of_test, two_of_test" + STAGE)
    project.write("one_of_test.py", "value = 1\n")
    project.write("two_of_test.py", "value = 2\n")
    before = project.version()
    project.write("one_of_test.py", "value = 2\n")
    project.write("two_of_test.py", "value = 1\n")
    assert project.version() != before


def test_an_edit_is_seen_by_a_process_that_asked_before(project: Project) -> None:
    project.write("stage_of_test.py", "import helper_of_test" + STAGE)
    helper = project.write("helper_of_test.py", "value = 1\n")
    before = project.version()
    stage = sys.modules["stage_of_test"].stage
    assert code_version_of(stage) == before
    project.write("helper_of_test.py", "value = 2\n")
    after = code_version_of(stage)
    assert after != before
    helper.unlink()
    assert code_version_of(stage) not in {before, after}


def test_a_missing_module_is_seen_when_it_comes(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setattr(sys, "path", [*sys.path, str(elsewhere)])
    project.write("stage_of_test.py", "def late():\n    import late_of_test" + STAGE)
    before = project.version()
    (elsewhere / "late_of_test.py").write_text("value = 1\n")
    importlib.invalidate_caches()
    assert code_version_of(sys.modules["stage_of_test"].stage) != before


def test_a_submodule_that_takes_the_place_of_nothing_is_seen(project: Project) -> None:
    project.write("pkg_of_test/__init__.py", "")
    project.write("stage_of_test.py", "try:\n    from pkg_of_test import late\nexcept ImportError:\n    pass" + STAGE)
    before = project.version()
    stage = sys.modules["stage_of_test"].stage
    project.write("pkg_of_test/late.py", "value = 1\n")
    assert code_version_of(stage) != before


def test_what_cannot_be_parsed_counts_by_its_bytes(project: Project) -> None:
    project.write("stage_of_test.py", "def late():\n    import broken_of_test" + STAGE)
    project.write("broken_of_test.py", "print 1\n")
    before = project.version()
    project.write("broken_of_test.py", "print 2\n")
    assert project.version() != before


def test_an_odd_escape_is_no_reason_to_count_comments(project: Project) -> None:
    project.write("stage_of_test.py", "def late():\n    import odd_of_test" + STAGE)
    project.write("odd_of_test.py", "pattern = '\\d'\n")
    before = project.version()
    project.write("odd_of_test.py", "pattern = '\\d'  # digits\n")
    assert project.version() == before


def test_a_deep_expression_is_parsed_as_any_other(project: Project) -> None:
    project.write("stage_of_test.py", "def late():\n    import deep_of_test" + STAGE)
    project.write("deep_of_test.py", "value = " + " + ".join(["a"] * 1500) + "\n")
    before = project.version()
    project.write("deep_of_test.py", "value = " + " + ".join(["a"] * 1500) + "  # a sum\n")
    assert project.version() == before
    project.write("deep_of_test.py", "value = " + " + ".join(["a"] * 1499) + " + b\n")
    assert project.version() != before


def test_asking_imports_nothing(project: Project) -> None:
    helpers(project)
    project.write("stage_of_test.py", "def late():\n    import pkg_of_test.deep.helper" + STAGE)
    project.version()
    assert not any(name.startswith("pkg_of_test") for name in sys.modules)


# --- Functions ---------------------------------------------------------------------------------------------------


def test_a_decorator_of_another_module_does_not_hide_the_stage(project: Project) -> None:
    project.write(
        "decorators_of_test.py",
        "import functools\n\n\ndef wrapped(f):\n"
        "    @functools.wraps(f)\n    def call():\n        return f()\n    return call\n",
    )
    text = "from decorators_of_test import wrapped\n\n\n@wrapped\ndef stage():\n    return 1\n"
    project.write("stage_of_test.py", text)
    before = project.version()
    project.write("stage_of_test.py", text.replace("1", "2"))
    assert project.version() != before


def test_partials_methods_classes_and_objects_count_by_their_module(project: Project) -> None:
    project.write("stage_of_test.py", STAGE + "\n\nclass Made:\n    def run(self): ...\n    def __call__(self): ...\n")
    expected = project.version()
    module = sys.modules["stage_of_test"]
    for other in (functools.partial(module.stage), module.Made.run, module.Made, module.Made()):
        assert code_version_of(other) == expected


FACTORY = """
import functools

def made(number, text="a"):
    def stage():
        return number, text
    return stage

class Made:
    def __init__(self, number):
        self.number = number
    def run(self): ...
    def __call__(self): ...

def default(number):
    return lambda n=number: n

def part(number):
    return functools.partial(plus, number)

def plus(one): ...

def method(number):
    return Made(number).run
"""


@pytest.mark.parametrize("factory", ["made", "Made", "default", "part", "method"])
def test_what_a_function_is_bound_to_counts_by_its_value(factory: str, project: Project) -> None:
    """A factory of stages lies in one module, what it is called with in another."""
    project.write("stage_of_test.py", STAGE + FACTORY)
    project.version()
    make = getattr(sys.modules["stage_of_test"], factory)
    assert code_version_of(make(1)) == code_version_of(make(1))
    assert code_version_of(make(1)) != code_version_of(make(3))


def test_closed_over_values_that_change_places_are_a_change(project: Project) -> None:
    project.write("stage_of_test.py", STAGE + FACTORY)
    project.version()
    make = sys.modules["stage_of_test"].made
    assert code_version_of(make("b", "a")) != code_version_of(make("a", "b"))


FACTORY_OF_FUNCTIONS = """
import functools

def closure(given):
    def stage():
        return given
    return stage

def part(given):
    return functools.partial(closure(1), given)

def named(given):
    return functools.partial(closure(1), given=given)

def collected(given):
    return closure({"all": [(given,)]})

def nested(given):
    return closure(closure(given))

def partial_in_a_closure(given):
    return closure(functools.partial(given))

def again(given):
    def stage():
        return given, stage, other
    def other():
        return stage, other
    return stage
"""
"""A module that does not import the function that its stages are bound to."""

GIVEN = {
    "a function": "def given():\n    return VALUE\n",
    "a function that imports another module": "from helper_of_test import value\n\ndef given():\n    return value\n",
    "a class": "class given:\n    value = VALUE\n",
    "an object": "class Given:\n    def run(self):\n        return VALUE\n\ngiven = Given()\n",
    "a method": "class Given:\n    def run(self):\n        return VALUE\n\ngiven = Given().run\n",
}


def version_of_bound(project: Project, factory: str, given: str, value: int) -> str:
    project.write("stage_of_test.py", FACTORY_OF_FUNCTIONS)
    project.write("given_of_test.py", given.replace("VALUE", str(value)))
    project.write("helper_of_test.py", f"value = {value}\n")
    project.forget()
    held = importlib.import_module("given_of_test").given
    return code_version_of(getattr(importlib.import_module("stage_of_test"), factory)(held))


@pytest.mark.parametrize("given", GIVEN)
@pytest.mark.parametrize("factory", ["closure", "part", "named", "collected", "nested", "again"])
def test_an_edit_to_the_code_that_a_function_is_bound_to_is_seen(project: Project, factory: str, given: str) -> None:
    one, other = (version_of_bound(project, factory, GIVEN[given], value) for value in (1, 2))
    assert one == version_of_bound(project, factory, GIVEN[given], 1)
    assert one != other


def test_an_edit_to_a_function_in_a_partial_that_a_function_is_bound_to_is_seen(project: Project) -> None:
    one, other = (version_of_bound(project, "partial_in_a_closure", GIVEN["a function"], value) for value in (1, 2))
    assert one != other


def test_an_edit_to_a_module_that_a_function_is_bound_to_is_seen(project: Project) -> None:
    versions = set()
    for value in (1, 1, 2):
        project.write("stage_of_test.py", FACTORY_OF_FUNCTIONS)
        project.write("helper_of_test.py", f"value = {value}\n")
        project.forget()
        helper = importlib.import_module("helper_of_test")
        versions.add(code_version_of(importlib.import_module("stage_of_test").closure(helper)))
    assert len(versions) == 2


def test_what_a_function_that_is_bound_is_bound_to_itself_counts(project: Project) -> None:
    project.write("stage_of_test.py", STAGE + FACTORY_OF_FUNCTIONS)
    project.version()
    make = sys.modules["stage_of_test"].closure
    assert code_version_of(make(make(1))) == code_version_of(make(make(1)))
    assert code_version_of(make(make(1))) != code_version_of(make(make(2)))


def test_functions_that_have_no_file_differ_by_what_they_do() -> None:
    def made(text: str) -> str:
        names: dict[str, object] = {"__name__": "no_module_of_test"}
        exec(text, names)  # noqa: S102
        return code_version_of(names["stage"])  # type: ignore[arg-type]

    one = made("def stage(): return 1")
    assert made("\n\ndef stage():\n    return 1") == one
    assert made("def stage(): return 2") != one
    assert made("def stage(): return 1.0") != one


def test_a_notebooks_function_counts_by_its_source_and_the_imports_inside_it(project: Project) -> None:
    def run(cell: str) -> str:
        linecache.cache["<cell of test>"] = (len(cell), None, cell.splitlines(keepends=True), "<cell of test>")
        names: dict[str, object] = {"__name__": "__main__"}
        exec(compile(cell, "<cell of test>", "exec"), names)  # noqa: S102
        return code_version_of(names["stage"])  # type: ignore[arg-type]

    project.write("helper_of_test.py", "value = 1\n")
    before = run("def stage():\n    import helper_of_test\n")
    assert run("X = 1\ndef stage():\n    # a comment\n    import helper_of_test\n") == before
    project.write("helper_of_test.py", "value = 2\n")
    assert run("def stage():\n    import helper_of_test\n") != before


def test_a_function_made_by_exec_in_a_module_counts_itself_too(project: Project) -> None:
    project.write("stage_of_test.py", "import os\nexec(f\"def stage(): return {os.environ['BODY_OF_TEST']}\")\n")
    os.environ["BODY_OF_TEST"] = "1"
    try:
        before = project.version()
        os.environ["BODY_OF_TEST"] = "2"
        assert project.version() != before
    finally:
        del os.environ["BODY_OF_TEST"]


def test_a_built_in_function_has_a_version() -> None:
    assert code_version_of(len) == code_version_of(os.path.join)


# --- Where a module comes from -----------------------------------------------------------------------------------


def test_modules_in_a_zip_count_by_their_source(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def version(value: int) -> str:
        archive = project.folder / f"archive-{value}.zip"
        with zipfile.ZipFile(archive, "w") as zipped:
            zipped.writestr("zipped_of_test/__init__.py", "")
            zipped.writestr("zipped_of_test/stage.py", "from . import helper" + STAGE)
            zipped.writestr("zipped_of_test/helper.py", f"value = {value}\n")
        with monkeypatch.context() as patch:
            patch.setattr(sys, "path", [str(archive), *sys.path])
            return project.version("zipped_of_test.stage")

    assert version(1) == version(1)
    assert version(1) != version(2)


def test_namespace_packages_are_followed(project: Project) -> None:
    project.write("space_of_test/inner/helper.py", "value = 1\n")
    project.write("stage_of_test.py", "from space_of_test.inner import helper" + STAGE)
    before = project.version()
    project.write("space_of_test/inner/helper.py", "value = 2\n")
    assert project.version() != before


def test_namespace_packages_are_followed_where_nobody_has_imported_them(project: Project) -> None:
    project.write("space_of_test/inner/helper.py", "value = 1\n")
    project.write("stage_of_test.py", "def late():\n    from space_of_test.inner import helper" + STAGE)
    before = project.version()
    project.write("space_of_test/inner/helper.py", "value = 2\n")
    assert project.version() != before


def install(folder: Path, version: str, value: int, *, record: bool = True) -> None:
    """A distribution `Dist-of-Test` with the module `dist_of_test`, as pip leaves it."""
    folder.mkdir(parents=True)
    (folder / "dist_of_test.py").write_text(f"value = {value}\n")
    info = folder / f"dist_of_test-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: Dist-of-Test\nVersion: {version}\n")
    if record:
        (info / "RECORD").write_text("dist_of_test.py,,\n")


def version_with(project: Project, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    project.write("stage_of_test.py", "import dist_of_test" + STAGE)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "path", [*sys.path, str(folder)])
        return project.version()


@pytest.mark.parametrize(("place", "record"), [("site-packages", True), ("dist-packages", False), ("target", True)])
def test_an_installed_package_counts_by_its_version_alone(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, record: bool
) -> None:
    def version(folder: str, of: str, value: int) -> str:
        install(tmp_path / folder / place, of, value, record=record)
        return version_with(project, tmp_path / folder / place, monkeypatch)

    one = version("a", "1.0", 1)
    assert version("b", "1.0", 2) == one
    assert version("c", "1.1", 1) != one


def test_a_package_that_no_distribution_lists_counts_by_its_name(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = set()
    for value in (1, 2):
        folder = tmp_path / str(value) / "site-packages"
        folder.mkdir(parents=True)
        (folder / "dist_of_test.py").write_text(f"value = {value}\n")
        versions.add(version_with(project, folder, monkeypatch))
    assert len(versions) == 1


def test_a_project_installed_in_place_is_source(project: Project) -> None:
    info = project.folder / "stage_of_test.egg-info"
    project.write(f"{info.name}/PKG-INFO", "Metadata-Version: 2.1\nName: stage-of-test\nVersion: 1\n")
    project.write(f"{info.name}/top_level.txt", "stage_of_test\n")
    project.write("stage_of_test.py", STAGE)
    before = project.version()
    project.write("stage_of_test.py", STAGE.replace("1", "2"))
    assert project.version() != before


def test_a_module_named_like_one_of_the_standard_library_is_source(project: Project) -> None:
    project.write("stage_of_test.py", "def late():\n    import antigravity" + STAGE)
    project.write("antigravity.py", "value = 1\n")
    before = project.version()
    project.write("antigravity.py", "value = 2\n")
    assert project.version() != before


def test_the_standard_library_does_not_count(project: Project) -> None:
    project.write("stage_of_test.py", STAGE)
    version = project.version()
    copy = project.folder / "copied_of_test.py"
    shutil.copy(project.folder / "stage_of_test.py", copy)
    assert project.version("copied_of_test") == version
