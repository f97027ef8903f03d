"""People's proportions: regressions on a small made-up table give back what it was made of."""

import csv

import numpy as np
import pytest

from synth.open_body.proportions import (
    DIALS,
    MEASURES,
    Table,
    dial_columns,
    learn_table,
    load_table,
    with_dials,
)

PEOPLE = 12  # of each sex


@pytest.fixture
def made_up(tmp_path):
    """(file, coefficients [2, 3, M], what the regressions leave [2 * PEOPLE, M], stature [2, PEOPLE], weight)."""
    rng = np.random.default_rng(0)
    coefficients = rng.uniform([0.1, 0.1, 0.0005], [0.3, 0.6, 0.002], (2, len(MEASURES), 3)).transpose(
        0, 2, 1
    )
    stature, weight = rng.uniform(1.5, 1.95, (2, PEOPLE)), rng.uniform(50, 110, (2, PEOPLE))
    columns = [column for column, _ in MEASURES.values()]
    shares = np.array([share for _, share in MEASURES.values()])
    rows, left = [], []
    for sex, name in enumerate(("Male", "Female")):
        known = np.stack([np.ones(PEOPLE), stature[sex], weight[sex]], 1)
        noise = rng.normal(0, 0.01, (PEOPLE, len(MEASURES)))
        noise -= known @ np.linalg.lstsq(known, noise, rcond=None)[0]  # what no regression explains
        left.append(noise)
        measured_m = known @ coefficients[sex] + noise - shares * stature[sex][:, None]
        rows += [
            {"Gender": name, "stature": 1000 * s, "weightkg": 10 * w}
            | dict(zip(columns, 1000 * values, strict=True))
            for s, w, values in zip(stature[sex], weight[sex], measured_m, strict=True)
        ]
    path = tmp_path / "ansur.csv"
    with open(path, "w", newline="", encoding="latin-1") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows[::2] + rows[1::2])
    return path, coefficients, np.concatenate(left), stature, weight


def test_learned_table_gives_back_its_coefficients(made_up):
    path, coefficients, left, stature, weight = made_up
    table = learn_table(path)
    np.testing.assert_allclose(table.coefficients, coefficients, atol=1e-9)
    np.testing.assert_allclose(table.spread, np.cov(left.T), atol=1e-12)
    expected = [(s.mean(), w.mean(), s.std(), w.std()) for s, w in zip(stature, weight, strict=True)]
    np.testing.assert_allclose(table.stature_weight, expected)


def test_another_table_is_named(tmp_path):
    path = tmp_path / "other.csv"
    path.write_text("Gender,stature,weightkg\nMale,1700,700\n")
    with pytest.raises(ValueError, match=r"other.csv: expected ANSUR II's columns, got none called acromial"):
        learn_table(path)


def test_expected_measures_lie_between_the_sexes():
    coefficients = np.array([[[0.1], [0.5], [0.001]], [[0.2], [0.4], [0.003]]])  # men, women; one measure
    table = Table(coefficients, np.eye(1), np.zeros((2, 4)))
    found = table.expected(np.array([0.0, 1.0, 0.25]), np.full(3, 1.8), np.full(3, 70.0))
    man, woman = 0.1 + 0.9 + 0.07, 0.2 + 0.72 + 0.21
    np.testing.assert_allclose(found, [[man], [woman], [0.75 * man + 0.25 * woman]])


def test_shipped_table_is_of_people():
    table, count = load_table(), len(MEASURES)
    assert table.coefficients.shape == (2, 3, count) and table.spread.shape == (count, count)
    np.testing.assert_allclose(table.spread, table.spread.T)
    assert np.linalg.eigvalsh(table.spread).min() > 0
    men, women = table.stature_weight
    assert 1.72 < men[0] < 1.80 and 1.58 < women[0] < 1.68  # US Army, 2012
    for sex, (stature, weight, *_) in enumerate((men, women)):
        values = table.expected(np.array([float(sex)]), np.array([stature]), np.array([weight]))[0]
        share = dict(zip(MEASURES, values / stature, strict=True))
        assert 0.03 < share["ankle_height"] < 0.05 and 0.26 < share["knee_height"] < 0.30
        assert share["crotch_height"] < share["hip_height"] < share["waist_girth"]
        assert share["hip_height"] < 0.55 < 0.75 < share["shoulder_height"] < share["neck_height"] < 0.87
        assert share["ankle_girth"] < share["calf_girth"] < share["lower_thigh_girth"] < share["thigh_girth"]


def test_shipped_table_is_of_these_measures():
    from synth.open_body.proportions import SHIPPED

    with np.load(SHIPPED, allow_pickle=False) as file:
        assert file["measures"].tolist() == list(MEASURES)


def test_dials_turn_up_and_down_left_and_right():
    stems = sorted({d.replace("{l,r}", side) for d in DIALS for side in "lr"})
    labels = [f"{stem}-{way}" for stem in stems for way in ("incr", "decr")]
    columns = dial_columns(labels[::2], 5)  # one label a pair, five columns before them
    assert columns.shape == (2, len(DIALS), 2)
    for index, dial in enumerate(DIALS):
        for side, column in zip("lr", columns[0, index], strict=True):
            assert stems[(column - 5) // 2] == dial.replace("{l,r}", side) and (column - 5) % 2 == 0
    np.testing.assert_array_equal(columns[1], columns[0] + 1)
    start = np.random.default_rng(0).random((2, 5 + len(labels)))
    before = start.copy()
    dials = np.zeros((2, len(DIALS)))
    both, sided = DIALS.index("lowerlegs-height"), DIALS.index("{l,r}-hand-scale")
    dials[0, both], dials[1, sided] = 0.5, -0.7
    change = with_dials(start, dials, columns) - start
    expected = np.zeros_like(change)
    expected[0, columns[0, both, 0]] = 0.5
    expected[1, columns[1, sided]] = 0.7
    np.testing.assert_allclose(change, expected, atol=1e-12)
    np.testing.assert_array_equal(start, before)
