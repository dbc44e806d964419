"""Whatever a field holds comes back bit for bit, or is refused by name."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from snapserv_client.errors import UnsupportedError
from snapserv_client.export import FieldFacts, NodeFacts, export_zarr
from snapserv_client.labelled import layout
from snapserv_client.labelled.source import Array, Block, run_of

FACTS = NodeFacts("made", "default", "Made", "", {}, 3, 1000.0)


class Made:
    """A node whose fields are arrays of this process."""

    facts = FACTS

    def __init__(self, arrays: dict[str, Array], dims: dict[str, tuple[str, ...]] | None = None) -> None:
        self.arrays = arrays
        self.fields = [
            FieldFacts(name, array.dtype, array.shape, (dims or {}).get(name, ())) for name, array in arrays.items()
        ]

    def lineage(self) -> list[tuple[str, int]]:
        return [("made", 3)]

    def read(self, field: FieldFacts, block: Block) -> Array:
        first, count = run_of(field.shape, block)  # as a store reads it
        flat = self.arrays[field.name].reshape(-1)[first : first + count]
        return flat.reshape([part.stop - part.start for part in block])


NUMBERS = "? i1 <i2 >i4 <i8 u1 >u2 <u4 >u8 <f2 >f2 <f4 >f4 <f8 >f8 <c8 >c8 <c16 >c16"
numbers = st.sampled_from(NUMBERS.split(" "))
times = st.sampled_from(["<M8[s]", ">M8[ms]", "<M8[25D]", "<M8[Y]", "<m8[ns]", ">m8[7h]", "<m8", "<M8[as]"])
texts = st.sampled_from(["<U3", ">U2", "S5", "S1", "V7"])
refused = st.sampled_from(["g", "G", "M8"])
plain = numbers | times | texts
names = st.sampled_from(["a", "b b", "ç", "d"])


def structures(inner: Any) -> Any:
    parts = st.tuples(names, inner, st.sampled_from([(), (2,), (2, 1)]))
    fields = st.lists(parts, min_size=1, max_size=3, unique_by=lambda part: part[0])
    return st.builds(np.dtype, fields, align=st.booleans())


dtypes = st.recursive(plain | refused, structures, max_leaves=5)
shapes = st.lists(st.sampled_from([0, 1, 2, 5]), max_size=3).map(tuple)


def leaves(array: Array, path: str) -> dict[str, Array]:
    if array.dtype.names is None:
        return {path: array}
    return {key: leaf for name in array.dtype.names for key, leaf in leaves(array[name], f"{path}.{name}").items()}


def has_refused(dtype: np.dtype[Any]) -> bool:
    if dtype.subdtype is not None:
        return has_refused(dtype.subdtype[0])
    if dtype.names is not None:
        return any(has_refused(dtype[name]) for name in dtype.names)
    return dtype.char in "gG" or dtype.str[1:] == "M8"


@settings(deadline=None, max_examples=80)
@given(st.data())
def test_every_type_comes_back_bit_for_bit_or_is_refused_by_name(data: st.DataObject) -> None:
    dtype = np.dtype(data.draw(dtypes))
    shape = data.draw(shapes)
    size = dtype.itemsize * int(np.prod(shape, dtype=int))
    content = np.random.default_rng(data.draw(st.integers(0, 99))).integers(0, 256, size, np.uint8)
    if data.draw(st.booleans()):
        content[:] = 0
        content[dtype.itemsize - 1 :: dtype.itemsize] = 0x80  # -0.0, where it is a number of that order
    array = np.ndarray(shape, dtype, content)
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(layout, "CHUNK_BYTES", data.draw(st.sampled_from([1, 40, 1 << 20])))
        target = Path(folder) / "out.zarr"
        if has_refused(dtype):
            with pytest.raises(UnsupportedError) as raised:
                export_zarr(Made({"field": array}), target)
            assert raised.value.details["field"] == "field"
            assert list(Path(folder).iterdir()) == []
            return
        export_zarr(Made({"field": array}), target)
        group = zarr.open_group(target, mode="r")
        wanted = leaves(array, "field")
        assert set(group.array_keys()) == {*wanted, "step"}
        for name, leaf in wanted.items():
            stored = group[name]
            assert isinstance(stored, zarr.Array)
            little = leaf.dtype.newbyteorder("<")
            assert (stored.dtype, stored.shape) == (little, leaf.shape)
            found = np.asarray(stored[...], little)  # a scalar of text forgets how long it may be
            if leaf.dtype.kind != "U":  # whose bytes may be no text, which numpy does not convert
                assert found.tobytes() == bits(leaf)
        with xr.open_zarr(target, chunks=None) as shown:
            assert {*shown.data_vars} == set(wanted)


def bits(array: Array) -> bytes:
    """Return an array's bytes, little-endian, without numpy's conversions."""
    if array.dtype.kind == "b":
        array = array.view(np.uint8) != 0
    size = array.dtype.itemsize
    each = np.frombuffer(array.tobytes(), np.uint8).reshape(-1, size)
    if array.dtype.str.startswith(">"):
        parts = 2 if array.dtype.kind == "c" else 1
        each = each.reshape(-1, size // parts)[:, ::-1]
    return each.tobytes()


@pytest.mark.parametrize("shape", [(), (3,)])
@pytest.mark.parametrize(("kind", "pattern"), [("f2", "017c"), ("f4", "0100807f"), ("f8", "010000000000f0ff")])
@pytest.mark.parametrize("order", "<>")
def test_what_is_no_number_keeps_its_bits(
    order: str, kind: str, pattern: str, shape: tuple[int, ...], tmp_path: Path
) -> None:
    little = np.full(shape, int.from_bytes(bytes.fromhex(pattern), "little"), f"<u{kind[1]}")
    real = little.astype(f"{order}u{kind[1]}").view(f"{order}{kind}")
    arrays = {"real": real}
    if kind != "f2":
        double = f"c{2 * int(kind[1])}"
        arrays["complex"] = np.frombuffer(2 * real.tobytes(), f"{order}{double}").reshape(shape)
    export_zarr(Made(arrays), tmp_path / "out.zarr")
    group = zarr.open_group(tmp_path / "out.zarr", mode="r")
    assert np.asarray(group["real"][...]).tobytes() == little.tobytes()  # type: ignore[index]
    if kind != "f2":
        assert np.asarray(group["complex"][...]).tobytes() == 2 * little.tobytes()  # type: ignore[index]


def test_text_comes_back(tmp_path: Path) -> None:
    array = np.array(["", "a", "äöü", "x\0y", "\0"], ">U3")
    export_zarr(Made({"text": array, "bytes": np.array([b"a\0b", b"", b"\xff"], "S3")}), tmp_path / "out.zarr")
    with xr.open_zarr(tmp_path / "out.zarr") as shown:
        assert shown.text.values.tolist() == array.tolist()
        assert shown["bytes"].values.tobytes() == b"a\0b\0\0\0\xff\0\0"


def test_axes_that_are_called_alike_and_are_not_get_names_of_their_own(tmp_path: Path) -> None:
    arrays = {
        "a": np.zeros((2, 3)),
        "b": np.zeros((4,)),
        "c": np.zeros(()),
        "d": np.zeros((3, 3)),
        "e": np.zeros(3),
    }
    dims = {"a": ("n", "c"), "b": ("n",), "d": ("e", "e"), "e": ("e",)}
    export_zarr(Made(arrays, dims), tmp_path / "out.zarr")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with xr.open_zarr(tmp_path / "out.zarr") as shown:
            assert shown.a.dims == ("a_n", "a_c")
            assert shown.b.dims == ("b_n",)
            assert shown.d.dims == ("d_dim_0", "d_dim_1")


@pytest.mark.parametrize("name", ["a/b", "__a", "..", ""])
def test_names_that_no_variable_can_have_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="called"):
        export_zarr(Made({name: np.zeros(2)}), tmp_path / "out.zarr")
    two = np.zeros(2, [("a.b", "i4"), ("a", [("b", "i4")])])
    with pytest.raises(UnsupportedError, match="two variables"):
        export_zarr(Made({"cells": two}), tmp_path / "out.zarr")
    assert list(tmp_path.iterdir()) == []


def test_a_field_that_is_called_step_takes_the_place_of_the_coordinate(tmp_path: Path) -> None:
    export_zarr(Made({"step": np.arange(3)}), tmp_path / "out.zarr")
    with xr.open_zarr(tmp_path / "out.zarr") as shown:
        assert shown.step.values.tolist() == [0, 1, 2]
        assert shown.attrs["step"] == 3
