"""Every failure a client can meet: one class = one HTTP status + one stable code + one remedy.

Nothing else in the project names an HTTP status. Errors pickle, so that audio workers can raise them across processes.
"""

from typing import ClassVar


class LridError(Exception):
    """Base of all errors with a public face. `detail` says what was expected and what came; never user content."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    title: ClassVar[str] = "Internal error"
    remedy: ClassVar[str] = "Try again; if it persists, report the request id to the operator."

    def __init__(self, detail: str = "", *, retry_after_seconds: float | None = None) -> None:
        super().__init__(detail)
        self.detail = detail or self.title
        self.retry_after_seconds = retry_after_seconds


class InternalError(LridError):
    """An unexpected error."""


class ModelFailed(LridError):
    code = "model_failed"
    title = "The model could not process this item"
    remedy = "Try again once; if it persists, send the track in another format and report the request id."


class NotFound(LridError):
    status, code, title = 404, "not_found", "No such page"
    remedy = "See /docs for what this server answers."


class MethodNotAllowed(LridError):
    status, code, title = 405, "method_not_allowed", "This method is not answered here"
    remedy = "Use the method in the Allow header; see /docs."


class HeadersTooLarge(LridError):
    status, code, title = 431, "headers_too_large", "The request headers are too large"
    remedy = "Send fewer or shorter headers; 64 KiB are accepted."


class Unauthorized(LridError):
    status, code, title = 401, "unauthorized", "A key is needed"
    remedy = "Send a valid key as `Authorization: Bearer KEY` or `X-API-Key: KEY`; the operator hands them out."


class RateLimited(LridError):
    status, code, title = 429, "rate_limited", "This key has sent too many requests"
    remedy = "Wait for the seconds in Retry-After and send the request again."


class MalformedHttp(LridError):
    status, code, title = 400, "malformed_http", "This is not an HTTP request we can read"
    remedy = "Speak HTTP/1.1, percent-encode what is not ASCII in the address, and give the length of a body once."


class MalformedJson(LridError):
    status, code, title = 400, "malformed_json", "The body is not valid JSON"
    remedy = 'Send a UTF-8 JSON object such as {"title": "...", "artist": "..."}.'


class MalformedMultipart(LridError):
    status, code, title = 400, "malformed_multipart", "The multipart body cannot be parsed or ended early"
    remedy = "Send multipart/form-data with a boundary, complete to the closing boundary; e.g. curl -F audio=@song.mp3."


class MalformedEncoding(LridError):
    status, code, title = 400, "malformed_encoding", "The compressed body cannot be inflated"
    remedy = "Send one complete gzip stream with Content-Encoding: gzip, or the body uncompressed."


class UnsupportedContentType(LridError):
    status, code, title = 415, "unsupported_content_type", "This content type or encoding is not accepted"
    remedy = (
        "Send multipart/form-data (audio and metadata) or application/json (metadata only), uncompressed or with "
        "Content-Encoding: gzip."
    )


class UploadTooLarge(LridError):
    status, code, title = 413, "upload_too_large", "The upload is larger than this server accepts"
    remedy = "Send a compressed format or a shorter excerpt; the limit is LRID_MAX_UPLOAD_MB."


class NothingGiven(LridError):
    status, code, title = 422, "nothing_given", "Neither audio nor metadata was given"
    remedy = "Send at least one of audio, title, album, artist, or what else the release reads, such as lyrics."


class ModalityNotUsed(LridError):
    status, code, title = 422, "modality_not_used", "The served release uses nothing of what was given"
    remedy = "Send what the detail names, or ask the operator for a release that reads what you have."


class NothingUsable(LridError):
    status, code, title = 422, "nothing_usable", "What was given holds nothing a language could be told from"
    remedy = "Send audio that is not silent, or a title, album, artist or lyrics with letters in it."


class InvalidOption(LridError):
    status, code, title = 422, "invalid_option", "An option is unknown or out of range"
    remedy = "See /docs for the options of /identify and their ranges."


class UnknownLanguage(LridError):
    status, code, title = 422, "unknown_language", "A candidate language is not a class of the release"
    remedy = "Use codes that GET /languages lists."


class InvalidMetadata(LridError):
    status, code, title = 422, "invalid_metadata", "A metadata field is not usable text"
    remedy = "Send UTF-8 strings without NUL, lone surrogates or long runs of combining marks."


class MetadataTooLong(LridError):
    status, code, title = 413, "metadata_too_long", "A metadata field is longer than this server accepts"
    remedy = "Shorten it: title, album, artist to LRID_MAX_METADATA_CHARACTERS each, lyrics to what the release reads."


class InvalidTensor(LridError):
    status, code, title = 400, "invalid_tensor", "A tensor of the Open Inference Protocol is not as it must be"
    remedy = "Send BYTES tensors `audio`, `title`, `album` or `artist` with one element per track; see /v2/models/lrid."


class DuplicatePart(LridError):
    status, code, title = 422, "duplicate_part", "A part or option was sent more than once"
    remedy = "Send audio, each metadata field and each option once; send one track a request."


class AudioError(LridError):
    """Something is wrong with the audio file; counted by code in the metrics."""

    status = 422


class AudioEmpty(AudioError):
    code, title = "audio_empty", "The audio holds no samples"
    remedy = "Send a file with at least 0.1 s of audio."


class AudioUnknownFormat(AudioError):
    status, code, title = 415, "audio_unknown_format", "This is not audio we can read"
    remedy = "Send WAV, FLAC, MP3, Ogg, Opus, AIFF, M4A, WMA, WavPack, or a video with sound."


class AudioCorrupt(AudioError):
    code, title = "audio_corrupt", "The audio is damaged and cannot be decoded"
    remedy = "Check that the file plays, re-encode it, and send it again."


class AudioTruncated(AudioError):
    code, title = "audio_truncated", "The file ends before any audio can be read"
    remedy = "The upload or the file was cut off: send the complete file."


class AudioParameters(AudioError):
    code, title = "audio_parameters", "Sample rate or channel count is out of range"
    remedy = "Send 1 to 8 channels at 8,000 to 192,000 Hz."


class AudioNotFinite(AudioError):
    code, title = "audio_not_finite", "The audio holds NaN or infinite samples"
    remedy = "Export the file again as 16-bit or 24-bit PCM."


class AudioTooLong(AudioError):
    status, code, title = 413, "audio_too_long", "The audio is longer than this server accepts"
    remedy = "Send an excerpt; the limit is LRID_MAX_AUDIO_SECONDS."


class DecoderMemory(AudioError):
    status, code, title = 413, "decoder_memory", "Decoding this file needs more memory than is allowed"
    remedy = "Re-encode the file with ordinary settings (16-bit, two channels) or send an excerpt."


class DecoderTimeout(AudioError):
    code, title = "decoder_timeout", "Decoding this file took longer than is allowed"
    remedy = "Re-encode the file with ordinary settings or send an excerpt."


class DecoderCrashed(AudioError):
    code, title = "decoder_crashed", "The decoder broke down on this file"
    remedy = "The file is damaged or hostile: re-encode it and send it again."


class QueueFull(LridError):
    status, code, title = 429, "queue_full", "The server has as much work as it may queue"
    remedy = "Wait for the seconds in Retry-After and send the request again."


class NotReady(LridError):
    status, code, title = 503, "not_ready", "The model is loading or being restarted"
    remedy = "Wait for the seconds in Retry-After, or until GET /health/ready answers 200."


class Draining(LridError):
    status, code, title = 503, "draining", "This server is shutting down"
    remedy = "Send the request to another server, or again after Retry-After."


class DeadlineExceeded(LridError):
    status, code, title = 504, "deadline_exceeded", "The deadline passed before the answer was ready"
    remedy = "Allow more time with X-Request-Timeout, ask for fewer windows, or send less at once."


class FeedbackClosed(LridError):
    status, code, title = 503, "feedback_closed", "Feedback cannot be stored at the moment"
    remedy = "Keep it and tell the operator; the limits are LRID_FEEDBACK_MAX_MB and the disk."


class ClientGone(LridError):
    """The caller hung up. Never seen by anyone; kept so that logs and metrics have a code for it."""

    status, code, title = 499, "client_gone", "The client closed the connection"
    remedy = "Nothing to do."


class ReleaseError(LridError):
    """A release cannot be served; the message names the file and the reason."""

    status, code, title = 422, "release_refused", "The release is not servable"
    remedy = "Run `lrid releases verify` and repair or replace the release."


class ReleaseNotFound(ReleaseError):
    """No release has this name."""

    remedy = "Name a release that is there: `lrid releases list` shows them, `lrid releases verify` checks them."


class PriorRefused(ReleaseError):
    """The class mix of a catalogue does not fit the release, or cannot be read."""

    remedy = "Set LRID_CATALOG_PRIOR to training, uniform, music4all, or a JSON file of a number over 0 for each class."


class SwapInProgress(LridError):
    status, code, title = 409, "swap_in_progress", "Another release is being loaded"
    remedy = "Wait until it is loaded; GET /models says which release is served."


def public_errors() -> dict[str, type[LridError]]:
    """Every error with a code of its own, by code."""
    found: dict[str, type[LridError]] = {}
    stack: list[type[LridError]] = [LridError]
    while stack:
        cls = stack.pop()
        stack.extend(cls.__subclasses__())
        if cls is LridError or "code" in cls.__dict__:
            found[cls.code] = cls
    return found
