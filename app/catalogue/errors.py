"""Errors of single songs, and of the lists that name them. No HTTP client sees these."""

from app.errors import AudioError, LridError


class FileUnreadable(AudioError):
    code, title = "file_unreadable", "The file cannot be read"
    remedy = "Check the path and its permissions."


class FolderUnreadable(LridError):
    code, title = "folder_unreadable", "The folder cannot be listed"
    remedy = "Check the path and its permissions."


class LinkCircle(LridError):
    code, title = "link_circle", "The link leads back to a folder that was walked already"
    remedy = "Nothing to do: its files are answered once."


class RowMalformed(LridError):
    code, title = "row_malformed", "The row is not of the form of its table"
    remedy = "Write one row per line in UTF-8; quote cells that hold the separator, and double quotes within them."


class RowDuplicate(LridError):
    code, title = "row_duplicate", "A row before has the same id"
    remedy = "Give every row an id of its own, or drop the column `id`."


class InputUnreadable(LridError):
    code, title = "input_unreadable", "The input is no list of songs"
    remedy = (
        "Give a folder, a list of files (.txt, .m3u), a table (.csv, .tsv, .parquet), or NDJSON (.ndjson, or - for stdin)."
    )


class ScoresUnreadable(InputUnreadable):
    """`lrid tag --from` was given something else than answers about files."""

    remedy = "Give --from a table that `lrid score` wrote about files: of a folder, a list, or a table with a column `path`."


class UndoUnreadable(InputUnreadable):
    """`lrid tag --undo` was given something else than an undo file."""

    remedy = (
        "Give --undo the file that `lrid tag --write` noted its changes in: lrid-tag-undo.jsonl, or that of --undo-file."
    )


class OutputFailed(LridError):
    code, title = "output_failed", "The output cannot be written"
    remedy = "Free some disk or choose another place; the same command goes on where it stopped."


class OutputUnfit(OutputFailed):
    """The rows do not belong into this file."""

    remedy = "Give --output another name, which ends in .csv, .tsv, .ndjson or .parquet."


class ServerUnreachable(LridError):
    code, title = "server_unreachable", "No server could be reached for too long"
    remedy = "Start a server, or check --server; the same command goes on where it stopped."


class ClusterUnusable(LridError):
    code, title = "cluster_unusable", "Ray cannot do this work"
    remedy = "Start Ray with enough CPUs (`ray start --num-cpus`), or ask for fewer workers; the same command goes on."


class NotAnswered(LridError):
    code, title = "not_answered", "The table has no answer for this file"
    remedy = "Look at the row's column error; mend the file, and score it again."


class TagRefused(LridError):
    code, title = "tag_refused", "The tag of this file cannot be written"
    remedy = (
        "Check that the file is writable and of a kind that can be tagged: "
        "MP3, AAC, FLAC, Ogg, Opus, MP4, AIFF, WAV, APE, Matroska."
    )
