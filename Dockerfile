# LRID Serve. Build: docker build -t lrid-serve .
#   CPU:  docker run --rm -p 8000:8000 --stop-timeout 40 lrid-serve
#   GPU:  docker run --rm -p 8000:8000 --stop-timeout 40 --gpus all lrid-serve
#   Hardened: add --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges
# torch's wheels bring CUDA's libraries (4.1 GB), so one image serves both; the host needs only the driver. Without them, for CPUs:
#   docker build --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cpu -t lrid-serve:cpu .

FROM python:3.12-slim AS builder
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/lrid
ENV PATH=/opt/lrid/bin:$PATH
WORKDIR /src

ARG TORCH_INDEX=
RUN if [ -n "$TORCH_INDEX" ]; then python -m pip install --index-url "$TORCH_INDEX" 'torch==2.11.*' 'torchaudio==2.11.0'; fi

# The dependencies alone first: this layer is the large one, and stays as long as pyproject.toml does.
COPY pyproject.toml README.md LICENSE ./
RUN mkdir -p app/integrations/beetsplug && touch app/__init__.py && python -m pip install . && rm -rf app build *.egg-info

COPY app app
RUN python -m pip install --no-deps --force-reinstall .

FROM python:3.12-slim
LABEL org.opencontainers.image.title="LRID Serve" \
      org.opencontainers.image.description="Which language is this song sung in?" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --system --uid 10001 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin lrid
COPY --from=builder /opt/lrid /opt/lrid
COPY model_store /srv/model_store

# Nothing is written but temporary files, and those under TMPDIR: the root file system may be read-only. LOGNAME lets it
# run under any user id, known to the image or not.
ENV PATH=/opt/lrid/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    LOGNAME=lrid \
    NUMBA_CACHE_DIR=/tmp/numba \
    NUMBA_CPU_NAME=generic \
    NUMBA_CPU_FEATURES= \
    XDG_CACHE_HOME=/opt/lrid/cache \
    HOME=/tmp \
    TMPDIR=/tmp \
    LRID_HOST=0.0.0.0 \
    LRID_PORT=8000 \
    LRID_MODEL_STORE=/srv/model_store \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

# The readers' loops are compiled here and copied at the start, for numba keeps nothing where it could not write. Compiled for
# any x86-64 or ARM64, since the machine that builds is not the one that serves. Networks are converted for OpenVINO, which
# reads them where they lie.
RUN python -c "import wave; w = wave.open('/tmp/tone.wav', 'wb'); w.setparams((1, 2, 16000, 0, 'NONE', '')); w.writeframes(bytes(range(256)) * 1250)"; \
    for release in /srv/model_store/*/*; do \
      NUMBA_CACHE_DIR=/opt/lrid/numba lrid identify /tmp/tone.wav --title "La vie en rose" --artist "Édith Piaf" \
        --model "${release#/srv/model_store/}" || exit 1; \
    done; rm /tmp/tone.wav; chmod -R a+rX /opt/lrid/numba /opt/lrid/cache

WORKDIR /srv
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import os, ssl, urllib.request as u; e = os.environ; s = 'https' if e.get('LRID_TLS_CERTIFICATE') else 'http'; u.urlopen(f\"{s}://127.0.0.1:{e['LRID_PORT']}/health/ready\", timeout=4, context=ssl._create_unverified_context())"]
ENTRYPOINT ["sh", "-c", "cp -r /opt/lrid/numba /tmp/; exec \"$@\"", "sh"]
CMD ["lrid", "serve"]
