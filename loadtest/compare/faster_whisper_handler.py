"""faster-whisper behind a small HTTP server: `python -m loadtest.compare.faster_whisper_handler --model DIR --port 9000`.

At its defaults: `decode_audio` reads the whole file, `detect_language` hears its first 30 s. Weights in int8, all cores
for one pass. Needs faster-whisper and nothing of this project.
"""

import argparse
import io
import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from faster_whisper import WhisperModel
from faster_whisper.audio import decode_audio


class Handler(BaseHTTPRequestHandler):
    """GET answers 200; POST of a form whose only part is the audio answers with the language."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # headers and body leave together
    model: WhisperModel

    def do_GET(self) -> None:
        self._answer({})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        boundary = self.headers.get_boundary() or ""
        audio = body[body.index(b"\r\n\r\n") + 4 : body.rindex(f"\r\n--{boundary}".encode())]
        language, probability, _ = self.model.detect_language(decode_audio(io.BytesIO(audio)))
        self._answer({"language": language, "probability": probability})

    def _answer(self, content: dict[str, object]) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base names it
        """Nothing is logged."""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a model directory, or a name that faster-whisper knows")
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    Handler.model = WhisperModel(options.model, device="cpu", compute_type="int8", cpu_threads=os.cpu_count() or 1)
    ThreadingHTTPServer(("127.0.0.1", options.port), Handler).serve_forever()
