"""Run as a script, in a process of its own: the phonemes that espeak-ng says, and when.

Standard input: {"text", "voice", "words_per_minute", "pitch"}. Standard output: [[sample, "IPA"], ...], where each phoneme
begins, at 22,050 Hz; "" is a pause. The command-line program cannot tell. The library keeps state between texts, so that
only a new process says just what the program says, sample for sample. Constants are from espeak-ng's speak_lib.h.
"""

from __future__ import annotations

import ctypes
import json
import sys

LIBRARY = "libespeak-ng.so.1"
RETURN_SAMPLES, PHONEME_EVENTS, PHONEME_IPA = 2, 1, 2  # espeak_Initialize
POSITION_CHARACTER, UTF8, END_PAUSE = 1, 1, 0x1000  # espeak_Synth
RATE, PITCH = 1, 3  # espeak_SetParameter
PHONEME = 7  # espeak_EVENT_TYPE; 0 ends a list


class Event(ctypes.Structure):
    """espeak_EVENT."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position_ms", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("phoneme", ctypes.c_char * 8),
    )


class VoiceWanted(ctypes.Structure):
    """espeak_VOICE."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("languages", ctypes.c_char_p),
        ("identifier", ctypes.c_char_p),
        ("gender", ctypes.c_ubyte),
        ("age", ctypes.c_ubyte),
        ("variant", ctypes.c_ubyte),
        ("reserved", ctypes.c_ubyte),
        ("score", ctypes.c_int),
        ("spare", ctypes.c_void_p),
    )


def phonemes(text: str, voice: str, words_per_minute: int, pitch: int) -> list[tuple[int, str]]:
    """Once in a process: [(sample, IPA)]. Raises OSError if the library or the voice is missing."""
    library = ctypes.CDLL(LIBRARY)
    found: list[tuple[int, str]] = []

    def take(_wav: object, _n_samples: int, events: ctypes._Pointer[Event]) -> int:
        i = 0
        while events[i].type:
            if events[i].type == PHONEME:
                found.append((events[i].sample, events[i].phoneme.decode(errors="replace")))
            i += 1
        return 0

    callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(Event))(take)
    if library.espeak_Initialize(RETURN_SAMPLES, 0, None, PHONEME_EVENTS | PHONEME_IPA) < 0:
        raise OSError("espeak-ng cannot be initialised")
    library.espeak_SetSynthCallback(callback)
    # as the program does: by name, or else by language
    wanted = VoiceWanted(languages=voice.encode())
    if library.espeak_SetVoiceByName(voice.encode()) and library.espeak_SetVoiceByProperties(ctypes.byref(wanted)):
        raise OSError(f"no voice {voice}")
    library.espeak_SetParameter(RATE, words_per_minute, 0)
    library.espeak_SetParameter(PITCH, pitch, 0)
    data = text.encode()
    library.espeak_Synth(data, len(data) + 1, 0, POSITION_CHARACTER, 0, UTF8 | END_PAUSE, None, None)
    library.espeak_Synchronize()
    return found


if __name__ == "__main__":
    json.dump(phonemes(**json.load(sys.stdin)), sys.stdout)
