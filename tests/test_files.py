"""Files of JSON lines: those of users, of which any line can be wrong, and our own, cut off."""

import pytest

from spjax import files
from spjax.training.run_files import drop_after


def test_lines_are_parsed_one_by_one_and_blank_ones_are_skipped():
    data = [b"\xef\xbb\xbf[1]\n", b" \n", b"{\n", b"\xff\n", b"[" * 99_999, b"null"]
    assert [(line.number, line.value, line.problem) for line in files.json_lines(data)] == [
        (1, [1], ""),
        (
            3,
            None,
            "not a JSON object (Expecting property name enclosed in double quotes at character 3)",
        ),
        (4, None, "not UTF-8 text (invalid start byte at byte 1)"),
        (5, None, "nested too deeply"),
        (6, None, ""),
    ]


@pytest.mark.parametrize("end", [b'{"step": 2', b'{"st', b"\xff", b"[2]"])
def test_a_last_line_that_was_cut_off_does_not_count(end, tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n' + end)
    assert files.read_json_lines(path) == [{"step": 1}]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"step": 2', "not a JSON object .Expecting ',' delimiter at character 1[12]"),
        (b"[2]", "it holds list"),
    ],
)
def test_another_line_that_is_no_object_is_named(line, message, tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(line + b'\n{"step": 3}\n')
    with pytest.raises(files.DamagedFile, match=f"metrics.jsonl:1 is damaged: {message}"):
        files.read_json_lines(path)


@pytest.mark.parametrize("end", [b"", b'{"step": 3}\n', b'{"step": 2, "a', b"nonsense\n", b"[1]\n"])
def test_a_log_goes_on_after_a_step(end, tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1, "loss": 0.10}\n{"step": 2}\n' + end)
    drop_after(path, 2)
    assert path.read_bytes() == b'{"step": 1, "loss": 0.10}\n{"step": 2}\n'


def test_a_line_without_its_end_gets_one(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n{"step": 2}')
    drop_after(path, 2)
    files.append_line(path, '{"step": 3}')
    assert [row["step"] for row in files.read_json_lines(path)] == [1, 2, 3]


def test_a_file_that_is_replaced_while_its_digest_is_checked_is_not_damaged(tmp_path, monkeypatch):
    path, sums = tmp_path / "results.csv", tmp_path / "results.sha256"
    path.write_text("old")
    files.write_sums(sums, [path.name])
    digest = files.file_digest

    def replace(checked, finish):
        monkeypatch.setattr(files, "file_digest", digest)
        sums.unlink()
        path.write_text("new")
        if finish:
            files.write_sums(sums, [path.name])
        return digest(checked)

    for finish in (True, False):
        monkeypatch.setattr(files, "file_digest", lambda checked, x=finish: replace(checked, x))
        files.check_sum(sums, path.name)
    files.write_sums(sums, [path.name])
    path.write_text("other bits")
    with pytest.raises(files.DamagedFile, match=r"results.csv is damaged.*results.sha256"):
        files.check_sum(sums, path.name)
