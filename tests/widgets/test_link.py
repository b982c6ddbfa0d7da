"""A page's address says all that is needed to bring the page back, and a bad one says what is wrong."""

from __future__ import annotations

import string
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from widgets.recipe.link import MAX_CHARACTERS, Link, LinkError, read_link, write_link
from workbench.recipe import Recipe

RECIPE = Recipe.parse(
    "- prune: {ratio: 0.6, overrides: {'stage1.[0].*': {ratio: 0.2}}}\n- quantize: {bits: 4, layers: ['*conv*', fc]}"
)


def refused(fragment: str) -> LinkError:
    with pytest.raises(LinkError) as caught:
        read_link(fragment)
    assert str(caught.value).endswith((".", "?"))
    return caught.value


def test_what_a_link_writes_it_reads_back() -> None:
    link = read_link("#" + write_link("resnet20", "fashion_mnist:full", RECIPE.to_data(), ("conv1", "fc")))
    assert (link.model, link.data, link.locked) == ("resnet20", "fashion_mnist:full", ("conv1", "fc"))
    assert Recipe.parse(link.recipe) == RECIPE


@given(st.text(), st.text(), st.lists(st.text(min_size=1), max_size=3))
def test_any_names_survive_a_link(model: str, data: str, locked: list[str]) -> None:
    try:
        "".join([model, data, *locked]).encode()
    except UnicodeEncodeError:  # no browser has such a name in its address
        return
    fragment = write_link(model, data, [], tuple(locked))
    assert read_link(fragment) == Link(model, data, "", tuple(locked))


def test_an_address_is_short_readable_and_has_nothing_that_mail_programs_cut_at() -> None:
    fragment = write_link("resnet20", "fashion_mnist", [{"prune": {"ratio": 0.6}}])
    assert fragment == "model=resnet20&data=fashion_mnist&recipe=%5B%7B%22prune%22:%7B%22ratio%22:0.6%7D%7D%5D&v=1"
    assert set(write_link("a b", "c<d>", RECIPE.to_data())) <= set(string.ascii_letters + string.digits + "%=&:/@._-~")
    assert urlsplit(f"http://localhost/#{fragment}").fragment == fragment


@pytest.mark.parametrize("fragment", ["", "#", "#top", "#section=2", "#&&="])
def test_a_fragment_that_is_not_ours_says_nothing(fragment: str) -> None:
    assert not read_link(fragment)


def test_a_link_that_was_cut_off_keeps_what_is_left_of_its_recipe() -> None:
    whole = write_link("resnet20", "fashion_mnist", RECIPE.to_data()).removesuffix("&v=1")
    error = refused(whole[:-20])
    assert "damaged" in str(error)
    assert error.recipe.startswith('[{"prune"')


def test_a_link_from_a_newer_version_keeps_its_recipe() -> None:
    error = refused(write_link("resnet20", "fashion_mnist", RECIPE.to_data()).replace("v=1", "v=12"))
    assert "newer version" in str(error)
    assert Recipe.parse(error.recipe) == RECIPE


@pytest.mark.parametrize("version", ["one", "-1", "1.5", "", "9" * 5_000])
def test_a_version_that_is_no_number_is_damage(version: str) -> None:
    assert "version is no number" in str(refused(f"model=resnet20&v={version}"))


def test_a_link_without_end_is_refused_unread() -> None:
    assert "characters" in str(refused("recipe=" + "%5B" * MAX_CHARACTERS))
    nested = "%5B" * (MAX_CHARACTERS // 4) + "%5D" * 10
    assert "damaged" in str(refused("recipe=" + nested))
