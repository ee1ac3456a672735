"""Table 4 of Lester et al. 2021 (arXiv 2104.08691v2), misprints corrected."""

import pytest

from benchmarks import parameter_table

# Frozen parameters and width; the paper's totals are these plus length times width.
MODELS = {
    "small": (76_961_152, 512),
    "base": (247_577_856, 768),
    "large": (783_150_080, 1024),
    "xl": (2_849_757_184, 2048),
    "xxl": (11_135_332_352, 4096),
}
TOTALS = {
    ("small", 1): 76_961_664,
    ("small", 5): 76_963_712,
    ("small", 20): 76_971_392,
    ("small", 50): 76_986_752,
    ("small", 100): 77_012_352,
    ("small", 150): 77_037_952,
    ("base", 1): 247_578_624,
    ("base", 5): 247_581_696,
    ("base", 20): 247_593_216,
    ("base", 50): 247_616_256,
    ("base", 100): 247_654_656,
    ("base", 150): 247_693_056,
    ("large", 1): 783_151_104,
    ("large", 5): 783_155_200,
    ("large", 20): 783_170_560,
    ("large", 50): 783_201_280,
    ("large", 100): 783_252_480,
    ("large", 150): 783_303_680,
    ("xl", 1): 2_849_759_232,
    ("xl", 5): 2_849_767_424,
    ("xl", 20): 2_849_798_144,
    ("xl", 50): 2_849_859_584,
    ("xl", 100): 2_849_961_984,
    ("xl", 150): 2_850_064_384,
    ("xxl", 1): 11_135_336_448,
    ("xxl", 5): 11_135_352_832,
    ("xxl", 20): 11_135_414_272,
    ("xxl", 50): 11_135_537_152,
    ("xxl", 100): 11_135_741_952,
    ("xxl", 150): 11_135_946_752,
}
PERCENTS = {
    ("small", 1): "0.00067",
    ("small", 5): "0.00333",
    ("small", 20): "0.01330",
    ("small", 50): "0.03325",
    ("small", 100): "0.06648",
    ("small", 150): "0.09969",
    ("base", 1): "0.00031",
    ("base", 150): "0.04651",
    ("large", 1): "0.00013",
    ("large", 100): "0.01307",
    ("large", 150): "0.01961",
    ("xl", 1): "0.00007",
    ("xl", 150): "0.01078",
    ("xxl", 1): "0.00004",
    ("xxl", 5): "0.00018",
    ("xxl", 20): "0.00074",
    ("xxl", 50): "0.00184",
    ("xxl", 100): "0.00368",
    ("xxl", 150): "0.00552",
}


@pytest.fixture(scope="module")
def rows():
    return {(row.size, row.length): row for row in parameter_table.table()}


def test_counts_are_those_of_the_paper(rows):
    assert {key: row.total for key, row in rows.items()} == TOTALS
    for (size, length), row in rows.items():
        frozen, width = MODELS[size]
        assert (row.prompt, row.total - row.prompt) == (length * width, frozen)
    assert {key: rows[key].percent for key in PERCENTS} == PERCENTS


def test_misprints_are_named(rows, capsys):
    parameter_table.main()
    text = capsys.readouterr().out
    assert "small, length 20: prompt is printed as 10420, should be 10240" in text
    assert "xxl, length 50: total is printed as 11137380352, should be 11135537152" in text
    assert "large, length 100: percent is printed as 0.01907, should be 0.01307" in text
    for size, length, column, printed in parameter_table.MISPRINTS:
        assert str(getattr(rows[size, length], column)) != printed
