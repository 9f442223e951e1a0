"""The checksum of a run's options: cut files are refused, changes are told, files of one's own are left alone."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from mebns_pl.cli.preflight import check_config_file
from mebns_pl.cli.seal import sealed
from mebns_pl.errors import DataError

OPTIONS = "trainer:\n  max_epochs: 4\n  accelerator: cpu\ndata:\n  graph: air_routes\n"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(sealed(OPTIONS))
    return path


def test_a_whole_file_passes(config: Path, caplog: pytest.LogCaptureFixture) -> None:
    check_config_file(config)
    config.write_text(OPTIONS)
    check_config_file(config)
    assert not caplog.text


def test_wherever_it_is_cut_it_is_refused(config: Path) -> None:
    whole = config.read_bytes()
    for length in range(len(whole) - 1):  # without its last line's end it is whole
        config.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"config\.yaml.*(its end is missing|the file is empty|no YAML)"):
            check_config_file(config)


def test_a_change_by_hand_is_told(config: Path, caplog: pytest.LogCaptureFixture) -> None:
    config.write_text(config.read_text().replace("max_epochs: 4", "max_epochs: 9"))
    check_config_file(config)
    assert caplog.messages == [f"{config}: changed since its run wrote it"]
    # As an editor of another system may leave it
    caplog.clear()
    config.write_bytes(sealed(OPTIONS).replace("\n", "\r\n").encode())
    check_config_file(config)
    assert len(caplog.messages) == 1


def test_no_flipped_bit_is_silent(config: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole, dice = config.read_bytes(), random.Random(0)
    first = whole.index(b"\n")
    for _ in range(200):
        place = dice.randrange(first, len(whole) - 1)
        config.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << dice.randrange(8)]) + whole[place + 1 :])
        caplog.clear()
        try:
            check_config_file(config)
        except DataError:
            continue
        assert "changed since its run wrote it" in caplog.text
