import numpy as np
import pytest
import scipy.sparse as sp
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from sparsim.errors import ConfigError, WorkloadError
from sparsim.machines.sparch_rounds import column_sizes
from sparsim.matrix import Csr
from sparsim.plot import condensing_example, plot_condensing

SMALL = np.array([[5, 0, 0, 7, 0], [0, 0, 0, 0, 0], [0, 0, 1, 1, 2]])


@pytest.fixture
def ax():
    return Figure(figsize=(9, 4), layout="constrained").add_subplot()


def cells(ax):
    """Return the left and right squares as lists of {(row, column): colour}."""
    found = []
    for collection in ax.collections:
        if not hasattr(collection, "get_offsets") or not len(collection.get_paths()) or collection.get_zorder() == 0:
            continue
        corners = [path.vertices[0] for path in collection.get_paths()]
        colors = [to_hex(color) for color in collection.get_facecolor()]
        found.append({(int(y), float(int(x * 2) / 2)): color for (x, y), color in zip(corners, colors, strict=True)})
    return found


def texts(ax):
    return [text.get_text() for text in ax.texts if text.get_text()]


def test_left_stands_the_matrix_and_right_its_rows_pushed_to_the_left(ax):
    assert plot_condensing(SMALL, ax) is ax
    left, right = cells(ax)
    assert set(left) == {(0, 0), (0, 3), (2, 2), (2, 3), (2, 4)}
    start = min(x for _, x in right)
    assert {(y, x - start) for y, x in right} == {(0, 0), (0, 1), (2, 0), (2, 1), (2, 2)}
    assert start > 5


def test_a_colour_is_a_column_before_and_a_condensed_column_after(ax):
    left, right = cells(plot_condensing(SMALL, ax))
    assert left[0, 3] == left[2, 3]
    assert len(set(left.values())) == 4
    start = min(x for _, x in right)
    assert right[0, start] == right[2, start]
    assert right[0, start + 1] == right[2, start + 1]
    assert len(set(right.values())) == 3


def test_cells_keep_the_column_they_came_from(ax):
    plot_condensing(SMALL, ax)
    ax.figure.draw_without_rendering()
    written = sorted((text.get_position()[1], text.get_position()[0], text.get_text()) for text in ax.texts)
    rows = [[label for y, _, label in written if y == row + 0.5 and label] for row in range(3)]
    assert rows == [["0", "3"] * 2, [], ["2", "3", "4"] * 2]


@pytest.mark.parametrize(
    ("matrix", "words"),
    [
        (SMALL, ["5 columns,\n4 partial matrices", "3 condensed columns,\n3 partial matrices"]),
        (np.eye(3), ["3 columns,\n3 partial matrices", "1 condensed column,\n1 partial matrix"]),
        (np.zeros((2, 3)), ["3 columns,\n0 partial matrices", "0 condensed columns,\n0 partial matrices"]),
        (np.zeros((0, 0)), ["0 columns,\n0 partial matrices", "0 condensed columns,\n0 partial matrices"]),
        (condensing_example(), ["16 columns,\n16 partial matrices", "12 condensed columns,\n12 partial matrices"]),
    ],
    ids=["small", "identity", "zeros", "empty", "example"],
)
def test_captions_count_partial_matrices(ax, matrix, words):
    plot_condensing(matrix, ax)
    ax.figure.draw_without_rendering()
    assert [text for text in texts(ax) if "\n" in text] == words


def test_example_uses_all_sixteen_columns_and_is_the_same_in_every_call():
    a, again = condensing_example(), condensing_example()
    assert isinstance(a, Csr)
    assert a.shape[1] == 16
    assert set(a.indices.tolist()) == set(range(16))
    assert column_sizes(a.indptr).size == 12
    np.testing.assert_array_equal(a.indices, again.indices)
    np.testing.assert_array_equal(a.indptr, again.indptr)


def test_many_partial_matrices_have_colours_of_their_own_in_order(ax):
    left, _ = cells(plot_condensing(np.eye(20), ax))
    colors = [left[row, row] for row in range(20)]
    assert len(set(colors)) == 20
    brightness = [sum(int(color[i : i + 2], 16) * w for i, w in ((1, 0.3), (3, 0.59), (5, 0.11))) for color in colors]
    assert brightness == sorted(brightness)


@pytest.mark.parametrize("kind", [Csr.from_dense, sp.csr_array, sp.coo_matrix], ids=["csr", "array", "coo"])
def test_any_kind_of_matrix_gives_the_same_picture(ax, kind):
    other = Figure(figsize=(9, 4), layout="constrained").add_subplot()
    assert cells(plot_condensing(kind(SMALL), other)) == cells(plot_condensing(SMALL, ax))


@pytest.mark.parametrize("shape", [(65, 3), (3, 65)])
def test_a_matrix_too_large_to_be_read_is_refused(ax, shape):
    with pytest.raises(ConfigError, match=r"matrix: .* allowed: 64 x 64"):
        plot_condensing(np.ones(shape), ax)


def test_what_is_no_matrix_is_refused(ax):
    with pytest.raises(WorkloadError, match="no matrix"):
        plot_condensing(7, ax)


def test_numbers_too_small_to_be_read_are_left_out():
    tiny = Figure(figsize=(3, 3), layout="constrained").add_subplot()
    plot_condensing(np.eye(64), tiny)
    assert not [text for text in texts(tiny) if text.isdigit() and int(text) % 8]


def test_without_axes_a_figure_is_made():
    from matplotlib import pyplot

    made = plot_condensing(np.eye(64))
    made.figure.draw_without_rendering()
    width, height = made.figure.get_size_inches()
    assert width < 16
    assert height < 14
    pyplot.close(made.figure)


@pytest.mark.parametrize("rows", [3, 30, 64])
def test_captions_do_not_overlap_however_tall_the_matrix(rows):
    axes = Figure(figsize=(6.4, 3.6), layout="constrained").add_subplot()
    plot_condensing(np.ones((rows, 4)), axes)
    axes.figure.draw_without_rendering()
    left, right = [text.get_window_extent() for text in axes.texts if "column" in text.get_text()]
    assert left.x1 < right.x0
