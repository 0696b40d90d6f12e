# Two images: `service` serves models and holds no PyTorch; `trainer` trains and publishes them.
#   docker build --target service --tag stillroom-service .
#   docker build --target trainer --tag stillroom-trainer .
# `--build-arg ACCELERATOR=gpu` takes the CUDA builds of onnxruntime and PyTorch. docs/containers.md has the rest.

# Any image with Python 3.11 or newer, pip and useradd.
ARG PYTHON_IMAGE=docker.io/library/python:3.11-slim-bookworm
# Wheels alone: no compiler is needed, so none is left behind.
ARG PIP="pip install --only-binary :all: --constraint constraints.txt --no-cache-dir --root-user-action ignore --disable-pip-version-check"


# What is to be installed, cut out of pyproject.toml: a changed dependency installs anew, a changed lint rule does not.
FROM ${PYTHON_IMAGE} AS requirements
ARG ACCELERATOR=cpu
RUN case "$ACCELERATOR" in cpu | gpu) ;; *) echo "ACCELERATOR: got '$ACCELERATOR', expected cpu or gpu" >&2; exit 1;; esac
WORKDIR /requirements
COPY pyproject.toml ./
RUN python -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
    extras = project['optional-dependencies']; \
    print(*project['dependencies'], *extras['$ACCELERATOR'], sep='\n', file=open('service.txt', 'w')); \
    print(*extras['trainer'], sep='\n', file=open('trainer.txt', 'w'))"


FROM ${PYTHON_IMAGE} AS serving
ARG PIP
# The uid is fixed, so that mounted folders can be given to it; a new volume takes the owner of the folder it covers.
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /tmp --no-log-init --shell /usr/sbin/nologin stillroom \
    && install --directory --owner 10001 --group 10001 /repository /state /cache
WORKDIR /requirements
COPY constraints.txt ./
COPY --from=requirements /requirements/service.txt ./
# The wheels' .pyc files stay: on a read-only root every start would compile anew, for about 3 s.
RUN $PIP --requirement service.txt
# Code is found in /app alone, whatever lies in the working directory, which is a volume.
ENV PYTHONPATH=/app PYTHONSAFEPATH=1 PYTHONUNBUFFERED=1


FROM serving AS training
ARG PIP
ARG ACCELERATOR=cpu
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY --from=requirements /requirements/trainer.txt ./
# For the CPU, PyTorch comes first and by itself: nothing else is looked for in its index of CPU builds.
# Without .pyc files (210 MB, 5 s a start): a trainer starts seldom and runs long.
RUN if [ "$ACCELERATOR" = cpu ]; then \
        $PIP --no-compile --no-deps --retries 1 --timeout 15 --extra-index-url "$TORCH_INDEX" torch; fi \
    && $PIP --no-compile --requirement trainer.txt


FROM training AS trainer
COPY LICENSE /app/
COPY service /app/service
COPY trainer /app/trainer
# Runs with their checkpoints, downloads, matplotlib's fonts.
ENV XDG_CACHE_HOME=/cache
LABEL org.opencontainers.image.title="stillroom-trainer" \
      org.opencontainers.image.description="Trains an ensemble, distils it into one small model, and publishes both." \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
USER 10001:10001
# The trainer's default for --models-dir is `models`, here.
WORKDIR /repository
# Python as process 1 is deaf to SIGTERM; SIGINT is Ctrl-C, after which --resume goes on.
STOPSIGNAL SIGINT
ENTRYPOINT ["python", "-m", "trainer"]
CMD ["train", "digits"]


FROM serving AS service
COPY LICENSE /app/
COPY service /app/service
RUN python -m compileall -q /app
ENV STILLROOM_MODELS_DIR=/repository/models STILLROOM_STATE_DIR=/state STILLROOM_HOST=0.0.0.0 STILLROOM_PORT=8000
LABEL org.opencontainers.image.title="stillroom-service" \
      org.opencontainers.image.description="Serves an ensemble and its distilled student side by side." \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
USER 10001:10001
WORKDIR /repository
EXPOSE 8000
# /health/live, not /health/ready: while it waits for models it is in good health, and a restart would bring none.
HEALTHCHECK --interval=15s --timeout=5s --start-period=15s --retries=3 CMD ["python", "-c", "import http.client, os, sys; \
    client = http.client.HTTPConnection('127.0.0.1', int(os.environ['STILLROOM_PORT']), timeout=4); \
    client.request('GET', '/health/live'); sys.exit(client.getresponse().status != 200)"]
ENTRYPOINT ["python", "-m", "service"]
CMD ["serve"]
