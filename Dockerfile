# vidstyle on the CPU: the page (vidstyle serve), and every other command that needs no window.
#
#     docker build -t vidstyle .
#     docker run --rm -p 127.0.0.1:8360:8360 -v vidstyle:/data vidstyle
#     docker run --rm -v "$PWD":/work -w /work --user "$(id -u):$(id -g)" vidstyle render in.mp4 out.mp4
#
# docs/container.md says more.

FROM python:3.13-slim AS build
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
# Networks and styles are in the wheel: nothing is fetched when it runs.
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.13-slim
# What OpenCV's wheel takes from the system.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 vidstyle \
    && install -d -o vidstyle -m 1777 /data
COPY --from=build /wheels /wheels
# The wheel that was just built; pyproject.toml bounds the versions of the others.
# hadolint ignore=DL3013
RUN pip install --no-cache-dir --find-links /wheels "vidstyle[serve]" \
    && rm -rf /wheels
# Compiled graphs, jobs and kept styles.
ENV VIDSTYLE_HOME=/data
VOLUME /data
USER 1000
WORKDIR /home/vidstyle
EXPOSE 8360
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8360/health', timeout=4)"]
# Docker's stop is SIGTERM, which ends visits and jobs properly.
ENTRYPOINT ["vidstyle"]
CMD ["serve", "--host", "0.0.0.0", "--token", "auto"]
