"""What processes know together."""

from __future__ import annotations

from pathlib import Path

from app.serving.board import ReleaseBoard, Seat


def test_alone_there_is_nobody_to_wait_for() -> None:
    board = ReleaseBoard()
    assert (board.read(), board.shared, board.complete) == (None, False, True)
    board.take_seat()
    board.write("lrid_net/2")
    assert board.read() is None


def test_complete_when_every_seat_is_taken(tmp_path: Path) -> None:
    path = tmp_path / ReleaseBoard.NAME
    boards = [ReleaseBoard(path, seat=Seat(number, 3)) for number in range(3)]
    for board in boards:
        assert not any(each.complete for each in boards)
        board.take_seat()
    assert all(each.complete for each in boards)
    boards[1].take_seat()  # a replacement that opened the port when it was ready
    assert all(each.complete for each in boards)
    ReleaseBoard(path).leave_seat(1)  # one that will open it before
    assert not any(each.complete for each in boards)
    boards[1].take_seat()
    assert all(each.complete for each in boards)


def test_a_release_is_told_to_all(tmp_path: Path) -> None:
    told: list[bool] = []
    path = tmp_path / ReleaseBoard.NAME
    ReleaseBoard(path, tell=lambda: told.append(True)).write("lrid_net/2")
    assert told == [True]
    assert ReleaseBoard(path).read() == "lrid_net/2"
