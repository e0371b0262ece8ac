# Two images: `service` answers requests and has no torch; `worker` measures as well.
#   docker build --target service -t noisefloor-service .
#   docker build --target worker  -t noisefloor-worker  .
FROM python:3.11-slim-bookworm AS base
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN useradd --create-home --uid 10001 noisefloor
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY service ./service
COPY workers ./workers
COPY migrations ./migrations
EXPOSE 8642
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
  CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8642/healthz', timeout=2)"]

FROM base AS service
RUN pip install --constraint constraints.txt '.[postgres,github,otel]'
USER 10001
WORKDIR /home/noisefloor
ENTRYPOINT ["noisefloor"]
CMD ["serve", "--host", "0.0.0.0"]

FROM base AS worker
RUN pip install --constraint constraints.txt '.[postgres,github,otel,worker]'
USER 10001
WORKDIR /home/noisefloor
ENTRYPOINT ["noisefloor"]
CMD ["up", "--host", "0.0.0.0"]
