"""Opens a container by FFmpeg (PyAV), finds its streams of sound and checks their codecs.

Only the demuxer that was sniffed and the decoders named here can run, and they see only the bytes: no protocol and no
file can be reached.
"""

import io
from typing import Any

import av

from app.audio.ends import missing_bytes
from app.audio.sniff import Found
from app.audio.spec import MAX_CHANNELS, MAX_DSD_RATE_HZ, MAX_SAMPLE_RATE_HZ, MIN_SAMPLE_RATE_HZ
from app.errors import AudioCorrupt, AudioParameters, AudioTruncated, AudioUnknownFormat

_DECODERS = (
    "8svx_exp,8svx_fib,aac,aac_latm,ac3,alac,amrnb,amrwb,ape,cook,dca,dsd_lsbf,dsd_lsbf_planar,dsd_msbf,dsd_msbf_planar,dst,"
    "eac3,flac,g722,g726,g726le,gsm,gsm_ms,mace3,mace6,mlp,mp1,mp1float,mp2,mp2float,mp3,mp3float,mpc7,mpc8,nellymoser,opus,"
    "qdm2,qdmc,real_144,real_288,shorten,sipr,speex,tak,truehd,tta,vorbis,wavpack,wmalossless,wmapro,wmav1,wmav2,wmavoice,"
    "adpcm_g722,adpcm_g726,adpcm_g726le,adpcm_ima_qt,adpcm_ima_wav,adpcm_ms,adpcm_sbpro_2,adpcm_sbpro_3,adpcm_sbpro_4,"
    "adpcm_swf,adpcm_yamaha,pcm_alaw,pcm_bluray,pcm_dvd,pcm_f32be,pcm_f32le,pcm_f64be,pcm_f64le,pcm_mulaw,pcm_s16be,"
    "pcm_s16be_planar,pcm_s16le,pcm_s16le_planar,pcm_s24be,pcm_s24le,pcm_s24le_planar,pcm_s32be,pcm_s32le,pcm_s32le_planar,"
    "pcm_s64be,pcm_s64le,pcm_s8,pcm_s8_planar,pcm_u16be,pcm_u16le,pcm_u24be,pcm_u24le,pcm_u32be,pcm_u32le,pcm_u8,s302m"
)
_MAX_DEMUXED_STREAMS = 256  # more look like lack of memory to FFmpeg; the limit of the service is lower
_PROBE_PACKETS = {"wav": "1", "w64": "1"}  # for DTS inside, which begins with its sync word; else 17 ms for a song
_PACKET_BYTES = str(1 << 19)  # of WAV that FFmpeg reads; by default there are 4 to 32 times as many packets
_READ_BYTES = str(1 << 15)  # at once by the parser of FLAC; the default, 1024, costs it 8 ms more for a song


def open_container(file: bytes, found: Found) -> Any:
    """The demuxed container. Raises AudioCorrupt, AudioTruncated."""
    av.logging.set_level(av.logging.PANIC)  # FFmpeg would write to stderr
    options = {
        "protocol_whitelist": "none",
        "format_whitelist": found.demuxer,
        "codec_whitelist": _DECODERS,
        "max_streams": str(_MAX_DEMUXED_STREAMS),
        "max_probe_packets": _PROBE_PACKETS.get(found.demuxer, "2500"),
        "max_size": _PACKET_BYTES,
        "raw_packet_size": _READ_BYTES,
    }
    try:
        return av.open(
            io.BytesIO(file), "r", format=found.demuxer, container_options=options, metadata_errors="surrogateescape"
        )
    except MemoryError:
        raise
    except (av.FFmpegError, ValueError, OSError):
        if missing := missing_bytes(file, found):
            raise AudioTruncated(missing) from None
        raise AudioCorrupt("Expected a readable container; its headers cannot be parsed.") from None


def sound_streams(container: Any, max_streams: int) -> list[Any]:
    """Audio streams in the order to try them: as in players, the default one first."""
    if len(container.streams) > max_streams:
        raise AudioCorrupt(f"Expected at most {max_streams} streams in the container; more came.")
    if not container.streams.audio:
        raise AudioUnknownFormat("Expected an audio stream in the container; none came.")
    default = av.stream.Disposition.default
    return sorted(container.streams.audio, key=lambda stream: not stream.disposition & default)


def checked_codec(stream: Any) -> Any:
    """The stream's decoder. Raises AudioUnknownFormat, AudioParameters."""
    codec = stream.codec_context
    if codec is None or codec.name not in _DECODERS.split(","):  # the whitelist binds probing alone
        came = "an unknown one" if codec is None else codec.name
        raise AudioUnknownFormat(f"Expected a codec of sound that we decode, like AAC, MP3, FLAC or PCM; {came} came.")
    most_hz = MAX_DSD_RATE_HZ if codec.name.startswith("ds") else MAX_SAMPLE_RATE_HZ
    if not MIN_SAMPLE_RATE_HZ <= codec.sample_rate <= most_hz:
        raise AudioParameters(f"Expected {MIN_SAMPLE_RATE_HZ} to {most_hz} Hz; {codec.sample_rate} Hz came.")
    if not 1 <= codec.channels <= MAX_CHANNELS:
        raise AudioParameters(f"Expected 1 to {MAX_CHANNELS} channels; {codec.channels} came.")
    codec.thread_count = 1
    return codec
